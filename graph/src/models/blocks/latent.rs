//! Multi-head latent attention: all heads read keys and values from one latent vector a row, which is what is remembered of it
//! (arXiv:2405.04434, §2.1).
//!
//! The projection from the latent to keys is applied to the queries instead, and that to values behind the attention: the absorbed form.
//! So attention has one head of keys, the latent and the turned part behind it, whatever the number of queries.

use super::decoder::{Decoder, Layer};
use crate::axis::Axis;
use crate::builder::Value;
use crate::config::ConfigReader;
use crate::op::Attention;
use crate::rope::{Pairing, Rope};
use crate::stored::Stored;

/// The axes and constants of latent attention.
pub struct LatentAttention {
    /// The one head of keys.
    shared: Axis,
    heads: Axis,
    /// Elements of a query that are not turned, and those that are.
    plain: Axis,
    turned: Axis,
    value: Axis,
    latent: Axis,
    /// The latent and the turned elements behind it.
    key: Axis,
    /// The latent of queries, where they have one.
    query: Option<Axis>,
    rope: Rope,
    how: Attention,
    bias: bool,
}

impl LatentAttention {
    /// Reads the fields of DeepSeek's configuration.
    pub fn read(d: &Decoder<'_>, c: &ConfigReader<'_>) -> Self {
        let [plain, turned] = ["qk_nope_head_dim", "qk_rope_head_dim"].map(|field| c.count(field));
        let heads = c.count("num_attention_heads");
        let value = c.count_or("v_head_dim", (c.count("hidden_size") / heads).max(1));
        let latent = c.count("kv_lora_rank");
        let query = c.count_from_zero("q_lora_rank", 0);
        let pairing = if c.flag_or("rope_interleave", true) { Pairing::Neighbours } else { Pairing::Halves };
        let scale = c.stretched_scores() / ((plain + turned) as f32).sqrt();
        Self {
            shared: d.b.axis("shared_key", 1),
            heads: d.kv_heads,
            plain: d.b.axis("plain_dim", plain),
            turned: d.b.axis("turned_dim", turned),
            value: d.b.axis("value_dim", value),
            latent: d.b.axis("latent", latent),
            key: d.b.axis("key_dim", latent + turned),
            query: (query > 0).then(|| d.b.axis("query_latent", query)),
            rope: c.rope(turned).paired(pairing),
            how: Attention::scaled(scale),
            bias: c.flag_or("attention_bias", false),
        }
    }

    /// Attention over `x` by the module of this name.
    pub fn attend<'b>(&self, layer: &Layer<'_, 'b>, module: &str, x: Value<'b>) -> Value<'b> {
        let hidden = layer.d.hidden;
        let name = |part: &str| format!("{module}.{part}");
        let (from, y, query) = match self.query {
            Some(query) => {
                let y = layer.project((&name("q_a_proj"), self.bias), (&[query], &[hidden]), x);
                (query, layer.d.norm_over(&layer.name(&name("q_a_layernorm")), &[query], y), "q_b_proj")
            }
            None => (hidden, x, "q_proj"),
        };
        let parts: [&[Axis]; 2] = [&[self.plain], &[self.turned]];
        let q = [0, 1].map(|which| {
            let new = [Stored::Axis(self.shared), Stored::Axis(self.heads), Stored::part(&parts, which)];
            layer.project_part((&name(query), false), (&new, &[from]), y)
        });
        let parts: [&[Axis]; 2] = [&[self.shared, self.latent], &[self.shared, self.turned]];
        let [latent, turned] = [0, 1].map(|which| {
            let new = [Stored::part(&parts, which)];
            layer.project_part((&name("kv_a_proj_with_mqa"), self.bias), (&new, &[hidden]), x)
        });
        let latent = layer.d.norm_over(&layer.name(&name("kv_a_layernorm")), &[self.latent], latent);
        let keys = latent.concat(turned.rope(&self.rope), self.key);
        let [to_key, to_value] = self.projections(layer, &name("kv_b_proj"));
        let queries = q[0].contract_each(to_key).concat(q[1].rope(&self.rope), self.key);
        let y = queries.attend(keys, keys, None, self.how).prefix(self.latent).contract_each(to_value);
        layer.project((&name("o_proj"), self.bias), (&[hidden], &[self.shared, self.heads, self.value]), y)
    }

    /// The projections of each head from the latent: to the part of its keys that is not turned, from behind, and to its values.
    fn projections<'b>(&self, layer: &Layer<'_, 'b>, module: &str) -> [crate::builder::Param<'b>; 2] {
        let name = layer.name(&format!("{module}.weight"));
        let parts: [&[Axis]; 2] = [&[self.plain], &[self.value]];
        let stored = |which| vec![Stored::Axis(self.heads), Stored::part(&parts, which), Stored::Axis(self.latent)];
        [
            layer.d.b.part(name.clone(), &[self.heads, self.latent, self.plain], stored(0)),
            layer.d.b.part(name, &[self.heads, self.value, self.latent], stored(1)),
        ]
    }
}
