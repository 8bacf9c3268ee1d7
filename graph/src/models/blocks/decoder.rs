//! The frame of a decoder: embedding, layers, norm, head; with the axes and constants that its layers share.

use super::attention::AttentionBlock;
use crate::axis::Axis;
use crate::builder::{Builder, Param, Value};
use crate::config::ConfigReader;
use crate::error::GraphError;
use crate::model::{Model, Section};
use crate::op::{Norm, Unary};
use crate::stored::Stored;

/// Names of a checkpoint's modules outside its layers. Llama's unless a model file says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// The embedding.
    pub embed: &'static str,
    /// The table of learned positions.
    pub positions: Option<&'static str>,
    /// What stands before a layer's number.
    pub layers: &'static str,
    /// The last norm.
    pub norm: &'static str,
    /// The head, where it is not the embedding.
    pub head: &'static str,
}

impl Names {
    const LLAMA: Self = Self {
        embed: "model.embed_tokens",
        positions: None,
        layers: "model.layers",
        norm: "model.norm",
        head: "lm_head",
    };
}

/// The axes and constants of a dense decoder. A model file changes what its architecture has otherwise.
pub struct Decoder<'b> {
    /// Where the graph is built.
    pub b: &'b Builder,
    /// The residual stream: `hidden_size`.
    pub hidden: Axis,
    /// Key/value heads.
    pub kv_heads: Axis,
    /// Query heads of each key/value head.
    pub group: Axis,
    /// Elements of a head.
    pub head_dim: Axis,
    /// The inner axis of MLPs: `intermediate_size`.
    pub ffn: Axis,
    /// Tokens.
    pub vocab: Axis,
    /// How many layers there are.
    pub layers: u32,
    /// Every norm of the model.
    pub norm: Norm,
    /// Whether norms have a bias.
    pub norm_bias: bool,
    /// What attention has in each layer.
    pub attention: AttentionBlock,
    /// The activation of MLPs.
    pub activation: Unary,
    /// Whether the projections of MLPs have a bias.
    pub mlp_bias: bool,
    /// The name of gate and up where they are one tensor.
    pub gate_up: Option<&'static str>,
    /// Whether projections are stored input first, as `Conv1D` has them.
    pub transposed: bool,
    /// Names of modules outside the layers.
    pub names: Names,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What logits are multiplied by.
    pub logits_scale: f32,
    /// The soft cap of the logits.
    pub logits_cap: Option<f32>,
    tied: bool,
    positions: u32,
    /// Labels of a classifier, which has a head of its own.
    labels: Option<u32>,
}

impl<'b> Decoder<'b> {
    /// Reads the fields of Llama's configuration, of which other families have some under other names.
    pub fn read(b: &'b Builder, c: &ConfigReader<'_>, norm: Norm, ffn: u32) -> Self {
        let (heads, kv_heads, head_dim) = c.heads();
        let (vocab, layers) = (c.count("vocab_size"), c.count("num_hidden_layers"));
        Self {
            b,
            hidden: b.axis("hidden", c.count("hidden_size")),
            kv_heads: b.axis("kv_heads", kv_heads),
            group: b.axis("queries_per_kv", (heads / kv_heads).max(1)),
            head_dim: b.axis("head_dim", head_dim),
            ffn: b.axis("ffn", ffn),
            vocab: b.axis("vocab", vocab),
            layers,
            norm,
            norm_bias: false,
            attention: AttentionBlock::read(c, layers, head_dim),
            activation: c.activation("hidden_act"),
            mlp_bias: c.flag_or("mlp_bias", false),
            gate_up: None,
            transposed: false,
            names: Names::LLAMA,
            embedding_scale: 1.0,
            logits_scale: 1.0,
            logits_cap: None,
            tied: c.flag_or("tie_word_embeddings", false),
            positions: c.count_or("max_position_embeddings", 2048),
            labels: c.labels().map(|labels| labels.names.len() as u32),
        }
    }

    /// Token ids to logits: embedding, the layers that `layer` describes, norm, head. The head of a classifier is `score`, without a
    /// bias, as `*ForSequenceClassification` has it in transformers.
    pub fn model(&self, layer: impl Fn(&Layer<'_, 'b>, Value<'b>) -> Value<'b>) -> Result<Model, Vec<GraphError>> {
        let (b, names) = (self.b, self.names);
        let embed = b.param(format!("{}.weight", names.embed), &[self.vocab, self.hidden]);
        let mut x = b.tokens().gather(embed).scale(self.embedding_scale);
        if let Some(name) = names.positions {
            let table = b.param(format!("{name}.weight"), &[b.axis("positions", self.positions), self.hidden]);
            x = x + b.positions(table);
        }
        for number in 0..self.layers {
            b.section(Section::Layer(number));
            x = layer(&Layer { d: self, number }, x);
        }
        b.section(Section::Head);
        let x = self.norm(names.norm, x).sampled_rows();
        if let Some(labels) = self.labels {
            return b.finish(x.contract(b.param("score.weight", &[b.axis("labels", labels), self.hidden])));
        }
        let untied = || b.param(format!("{}.weight", names.head), &[self.vocab, self.hidden]);
        let logits = x.contract(if self.tied { embed } else { untied() }).scale(self.logits_scale);
        b.finish(self.logits_cap.map_or(logits, |cap| logits.map(Unary::Softcap(cap))))
    }

    /// The norm of a hidden state by the module of this name.
    fn norm(&self, name: &str, x: Value<'b>) -> Value<'b> {
        self.norm_over(name, &[self.hidden], x)
    }

    /// A norm over any trailing axes.
    pub(super) fn norm_over(&self, name: &str, axes: &[Axis], x: Value<'b>) -> Value<'b> {
        let y = x.norm(self.b.param(format!("{name}.weight"), axes), self.norm);
        if self.norm_bias { y.bias(self.b.param(format!("{name}.bias"), axes)) } else { y }
    }
}

/// One layer: its weights by the names they have in it.
#[derive(Clone, Copy)]
pub struct Layer<'a, 'b> {
    /// The decoder it is a layer of.
    pub d: &'a Decoder<'b>,
    /// Its number, from 0.
    pub number: u32,
}

impl<'b> Layer<'_, 'b> {
    /// The whole name of a module of this layer.
    pub fn name(&self, module: &str) -> String {
        format!("{}.{}.{module}", self.d.names.layers, self.number)
    }

    /// A weight of this layer.
    pub fn weight(&self, name: &str, axes: &[Axis]) -> Param<'b> {
        self.d.b.param(self.name(name), axes)
    }

    /// The norm of a hidden state.
    pub fn norm(&self, module: &str, x: Value<'b>) -> Value<'b> {
        self.d.norm(&self.name(module), x)
    }

    /// A projection `x · wᵀ` from the axes `summed`, with its bias where it has one.
    pub fn project(&self, (module, bias): (&str, bool), (new, summed): (&[Axis], &[Axis]), x: Value<'b>) -> Value<'b> {
        self.project_part((module, bias), (&Stored::plain(new), summed), x)
    }

    /// A projection to a part of what a module gives: of its stored dimensions in `new`.
    pub fn project_part(
        &self,
        (module, bias): (&str, bool),
        (new, summed): (&[Stored], &[Axis]),
        x: Value<'b>,
    ) -> Value<'b> {
        let (b, name) = (self.d.b, self.name(module));
        let axes: Vec<Axis> = new.iter().flat_map(|dim| dim.axes().to_vec()).collect();
        let stored = if self.d.transposed {
            [Stored::plain(summed), new.to_vec()]
        } else {
            [new.to_vec(), Stored::plain(summed)]
        };
        let w = b.part(format!("{name}.weight"), &[axes.as_slice(), summed].concat(), stored.concat());
        let y = x.contract(w);
        if bias { y.bias(b.part(format!("{name}.bias"), &axes, new.to_vec())) } else { y }
    }
}
