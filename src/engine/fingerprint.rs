//! The settings of an engine that change what it computes, for a job to compare when it goes on.

use super::EngineBuilder;
use crate::error::Error;
use graph::DType;
use graph::plan::Numerics;
use serde_json::{Map, Value};

impl EngineBuilder {
    /// Every setting and file that changes results, by name: model, element types, ranks that sum, instruction set, limits. What
    /// leaves all bits as they are is not among them: batch sizes, stages, threads, devices, the prefix cache.
    ///
    /// # Errors
    /// As [`EngineBuilder::plan`].
    pub fn fingerprint(&self) -> Result<Map<String, Value>, Error> {
        let (_, plan) = self.plan()?;
        let dtype = |dtype: Option<DType>| dtype.map_or("auto".into(), |dtype| format!("{dtype:?}").to_lowercase());
        let mut model = self.checkpoint.fingerprint();
        model.insert("name".into(), self.checkpoint.dir().display().to_string().into());
        if self.dummy_weights {
            model.insert("weights".into(), "made up".into());
        }
        // Under a tree no degree changes a bit, so a job may go on under another one.
        let [tensor, expert] = match self.numerics {
            Numerics::Invariant => [self.tensor, self.expert],
            Numerics::Tree => [1, 1],
        };
        let settings: [(&str, Value); 10] = [
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("model", model.into()),
            ("dtype", dtype(self.dtype).into()),
            ("quantization", self.quantization.map_or(Value::Null, |how| how.name().into())),
            ("kv_cache_dtype", dtype(self.cache_dtype).into()),
            ("tensor_parallel_size", tensor.into()),
            ("expert_parallel_size", expert.into()),
            ("numerics", self.numerics.name().into()),
            ("max_model_len", plan.data().settings.max_model_len.into()),
            ("instruction_set", self.isa.name().into()),
        ];
        Ok(settings.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }
}
