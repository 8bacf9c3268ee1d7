//! What a configuration says of how its checkpoint is quantised.

use crate::checkpoint::ConfigError;
use crate::error::Shown;
use graph::DType;
use serde_json::{Map, Value};
use std::path::Path;

/// How weights are quantised, as `quantization_config` names it.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::checkpoint) enum Method {
    /// Integers in words along the terms. Source: Frantar et al. 2022 (arXiv:2210.17323); the files of AutoGPTQ and GPTQModel.
    Gptq {
        bits: u32,
        /// Whether zero is the middle of the codes, whatever the file stores for it: some store it less one, some not.
        symmetric: bool,
        /// What is added to a stored zero: 1, but for `"checkpoint_format": "gptq_v2"`.
        more: u32,
        /// Terms of a group; `None` is all of them.
        group: Option<usize>,
    },
    /// Integers of 4 bits in words along the outputs. Source: Lin et al. 2023 (arXiv:2306.00978); the `gemm` files of AutoAWQ.
    Awq { group: Option<usize> },
    /// One byte a weight, scales as the tensors' shapes say. Source: DeepSeek-V3 (arXiv:2412.19437 §3.3); FBGEMM.
    Fp8 { block: Option<[usize; 2]> },
    /// What vLLM's llm-compressor writes: one byte a weight, packed words, or floats of 4 bits.
    CompressedTensors {
        /// Of each group of layers the bits of a code, and the terms that share a scale.
        widths: Vec<(u32, Option<usize>)>,
        block: Option<[usize; 2]>,
    },
    /// Floats of 4 bits in blocks of 32. Source: gpt-oss (arXiv:2508.10925 §2.1).
    Mxfp4,
}

/// Methods that are read.
const METHODS: &str = "gptq, awq, fp8, fbgemm_fp8, compressed-tensors or mxfp4";

impl Method {
    /// That of a configuration; `None` where it has no `quantization_config`.
    pub(in crate::checkpoint) fn of(file: &Path, config: &Map<String, Value>) -> Result<Option<Self>, ConfigError> {
        let text = config.get("text_config").and_then(Value::as_object);
        let names = ["quantization_config", "compression_config"];
        let found = names.iter().find_map(|name| config.get(*name).or_else(|| text?.get(*name)));
        let Some(found) = found.filter(|found| !found.is_null()) else { return Ok(None) };
        let map = found.as_object().ok_or_else(|| fault(file, "quantization_config", Some(found), "an object"))?;
        let fields = Fields { file, map };
        let method = map.get("quant_method").and_then(Value::as_str).unwrap_or_default();
        Ok(Some(match method {
            "gptq" => fields.gptq()?,
            "awq" => fields.awq()?,
            "fp8" | "fbgemm_fp8" => Self::Fp8 { block: fields.block("weight_block_size")? },
            "compressed-tensors" => fields.compressed_tensors()?,
            "mxfp4" => Self::Mxfp4,
            _ => return Err(fault(file, "quantization_config.quant_method", map.get("quant_method"), METHODS)),
        }))
    }

    /// The name that people know it by.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Gptq { .. } => "GPTQ",
            Self::Awq { .. } => "AWQ",
            Self::Fp8 { .. } => "fp8",
            Self::CompressedTensors { .. } => "compressed-tensors",
            Self::Mxfp4 => "MXFP4",
        }
    }
}

/// The type that weights have where they are widened: that of the configuration.
pub(in crate::checkpoint) fn widened(config: &Map<String, Value>) -> DType {
    let text = config.get("text_config").and_then(Value::as_object);
    let named = |map: &Map<String, Value>| {
        ["dtype", "torch_dtype"].iter().find_map(|n| Some(map.get(*n)?.as_str()?.to_owned()))
    };
    match named(config).or_else(|| named(text?)).as_deref() {
        Some("float32") => DType::F32,
        Some("float16") => DType::F16,
        _ => DType::Bf16,
    }
}

fn fault(file: &Path, field: &'static str, got: Option<&Value>, allowed: &'static str) -> ConfigError {
    ConfigError::Field { file: file.into(), field, got: Shown::json(got.unwrap_or(&Value::Null)), allowed }
}

struct Fields<'a> {
    file: &'a Path,
    map: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn gptq(&self) -> Result<Method, ConfigError> {
        let (bits, format) = (self.map.get("bits"), self.map.get("checkpoint_format"));
        let Some(bits @ (2 | 4 | 8)) = bits.and_then(Value::as_u64) else {
            return Err(fault(self.file, "quantization_config.bits", bits, "2, 4 or 8"));
        };
        let more = match format.map(|format| format.as_str()) {
            None | Some(Some("gptq")) => 1,
            Some(Some("gptq_v2")) => 0,
            Some(_) => {
                let allowed = "gptq or gptq_v2; save it as one of them";
                return Err(fault(self.file, "quantization_config.checkpoint_format", format, allowed));
            }
        };
        let symmetric = self.map.get("sym").and_then(Value::as_bool).unwrap_or(true);
        Ok(Method::Gptq { bits: bits as u32, symmetric, more, group: self.group("group_size") })
    }

    fn awq(&self) -> Result<Method, ConfigError> {
        let bits = self.map.get("bits").or_else(|| self.map.get("w_bit"));
        if bits.and_then(Value::as_u64) != Some(4) {
            return Err(fault(self.file, "quantization_config.bits", bits, "4"));
        }
        let version = self.map.get("version");
        match version.and_then(Value::as_str).map(str::to_lowercase).as_deref() {
            None | Some("gemm") => Ok(Method::Awq { group: self.group("group_size").or(self.group("q_group_size")) }),
            Some(_) => Err(fault(self.file, "quantization_config.version", version, "gemm")),
        }
    }

    fn compressed_tensors(&self) -> Result<Method, ConfigError> {
        let groups = self.map.get("config_groups").and_then(Value::as_object);
        let weights = groups.into_iter().flat_map(Map::values).filter_map(|group| group.get("weights")?.as_object());
        let (mut widths, mut block) = (vec![], None);
        for map in weights {
            let width = map.get("num_bits");
            let Some(width @ (1 | 2 | 4 | 8)) = width.and_then(Value::as_u64) else {
                let field = "quantization_config.config_groups.weights.num_bits";
                return Err(fault(self.file, field, width, "1, 2, 4 or 8"));
            };
            let fields = Fields { file: self.file, map };
            let group = fields.group("group_size");
            widths.push((width as u32, group));
            block = block.or(fields.block("block_structure")?).or(group.map(|group| [1, group]));
        }
        Ok(Method::CompressedTensors { widths, block })
    }

    /// Terms that share a scale; absent, null and -1 are all of a row.
    fn group(&self, field: &str) -> Option<usize> {
        let terms = self.map.get(field).and_then(Value::as_u64).filter(|&terms| terms > 0);
        terms.and_then(|terms| usize::try_from(terms).ok())
    }

    /// Rows and columns of a block.
    fn block(&self, field: &'static str) -> Result<Option<[usize; 2]>, ConfigError> {
        let Some(found) = self.map.get(field).filter(|found| !found.is_null()) else { return Ok(None) };
        let lengths: Vec<_> = found.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        match lengths[..] {
            [rows @ 1..=0xffff_ffff, columns @ 1..=0xffff_ffff] => Ok(Some([rows as usize, columns as usize])),
            _ => Err(fault(self.file, field, Some(found), "rows and columns of a block, both above 0")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn method(value: Value) -> Result<Option<Method>, String> {
        let map = json!({"quantization_config": value}).as_object().cloned().expect("an object");
        Method::of(Path::new("config.json"), &map).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        assert_eq!(Method::of(Path::new("c"), &Map::new()).unwrap(), None);
        let gptq = |more| Ok(Some(Method::Gptq { bits: 4, symmetric: false, more, group: None }));
        assert_eq!(method(json!({"quant_method": "gptq", "bits": 4, "sym": false})), gptq(1));
        let v2 =
            json!({"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": false, "checkpoint_format": "gptq_v2"});
        assert_eq!(method(v2), gptq(0));
        let awq = json!({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM"});
        assert_eq!(method(awq), Ok(Some(Method::Awq { group: Some(64) })));
        let deepseek = json!({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]});
        assert_eq!(method(deepseek), Ok(Some(Method::Fp8 { block: Some([128, 128]) })));
        let packed =
            json!({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4}}}});
        assert_eq!(method(packed), Ok(Some(Method::CompressedTensors { widths: vec![(4, None)], block: None })));
    }

    #[test]
    fn what_is_not_read_is_said() {
        let check =
            |value: Value, expect: &str| assert_eq!(method(value).unwrap_err(), format!("config.json: {expect}"));
        let field = |name: &str| format!("quantization_config.{name}");
        check(json!("int4"), "quantization_config is \"int4\", must be an object");
        check(json!({"quant_method": "hqq"}), &format!("{} is \"hqq\", must be {METHODS}", field("quant_method")));
        check(json!({"quant_method": "gptq", "bits": 3}), &format!("{} is 3, must be 2, 4 or 8", field("bits")));
        check(
            json!({"quant_method": "awq", "bits": 4, "version": "gemv"}),
            &format!("{} is \"gemv\", must be gemm", field("version")),
        );
        check(
            json!({"quant_method": "fp8", "weight_block_size": [128, 0]}),
            "weight_block_size is [128,0], must be rows and columns of a block, both above 0",
        );
    }
}
