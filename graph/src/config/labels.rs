//! What a sequence classifier says: the fields that `*ForSequenceClassification` has in the Hugging Face configuration.

use super::ConfigReader;
use crate::error::ConfigFault;
use serde_json::Value;

/// How the scores of a text are made probabilities of its labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Activation {
    /// They are none: a number is what was learned, such as a reward.
    #[default]
    None,
    /// Each label is true or not by itself.
    Sigmoid,
    /// One label is true.
    Softmax,
}

/// The labels of a classifier.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels {
    /// A name for each entry of a row of logits.
    pub names: Vec<String>,
    /// What becomes of the scores.
    pub activation: Activation,
}

impl ConfigReader<'_> {
    /// The labels that `id2label` names, else `num_labels` of them, else two; `None` of a model that continues texts.
    pub fn labels(&self) -> Option<Labels> {
        let class = self.get("architectures")?.as_array()?.first()?.as_str()?;
        if !class.ends_with("ForSequenceClassification") {
            return None;
        }
        let names = self.label_names();
        let activation = match self.get("problem_type").map(|kind| (kind, kind.as_str())) {
            None if names.len() == 1 => Activation::Sigmoid,
            None | Some((_, Some("single_label_classification"))) => Activation::Softmax,
            Some((_, Some("multi_label_classification"))) => Activation::Sigmoid,
            Some((_, Some("regression"))) => Activation::None,
            Some((kind, Some(_) | None)) => {
                let allowed = "regression, single_label_classification, multi_label_classification".into();
                self.value_fault("problem_type", kind, allowed);
                Activation::None
            }
        };
        Some(Labels { names, activation })
    }

    fn label_names(&self) -> Vec<String> {
        let Some(map) = self.object("id2label") else {
            return (0..self.count_or("num_labels", 2)).map(|label| format!("LABEL_{label}")).collect();
        };
        let name = |label: usize| map.get(&label.to_string()).and_then(Value::as_str).map(String::from);
        (0..map.len().max(1)).map(name).collect::<Option<Vec<String>>>().unwrap_or_else(|| {
            let allowed = "an object of names under \"0\", \"1\", … without a gap".into();
            self.value_fault("id2label", &Value::Object(map.clone()), allowed);
            vec!["LABEL_0".into()]
        })
    }

    /// Refuses labels where the family has no head for them.
    pub(crate) fn labels_fit(&self, labels: &Labels, logits: u32) {
        if labels.names.len() as u32 != logits {
            let value = self.get("architectures").map(ToString::to_string).unwrap_or_default();
            let allowed = "a class that continues texts: this family has no head of labels here".into();
            self.fault(ConfigFault::Value { field: "architectures".into(), value, allowed });
        }
    }
}
