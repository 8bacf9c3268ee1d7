//! The compiled kernels, as their manifest describes them.

use serde_json::Value;
use std::sync::OnceLock;

/// A parameter of a kernel.
pub(crate) struct Param {
    pub(crate) name: String,
    /// `ptr:bf16`, `i32`, `i64`, `f32`.
    pub(crate) kind: String,
    pub(crate) aligned: bool,
}

/// One compiled kernel.
pub struct Variant {
    pub(crate) id: String,
    pub(crate) kernel: String,
    pub(crate) params: Vec<Param>,
    pub(crate) constants: Vec<(String, i64)>,
    pub(crate) threads: u32,
    pub(crate) shared: u32,
    cubin: Vec<u8>,
}

const MANIFEST: &str = include_str!("../../gpu/manifest.json");
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu");

/// All of them.
pub(crate) fn variants() -> &'static [Variant] {
    static READ: OnceLock<Vec<Variant>> = OnceLock::new();
    READ.get_or_init(|| {
        let manifest: Value = serde_json::from_str(MANIFEST).expect("the manifest is JSON");
        manifest["kernels"].as_array().expect("a list of kernels").iter().map(variant).collect()
    })
}

fn variant(entry: &Value) -> Variant {
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    let number = |value: &Value| value.as_u64().expect("a number") as u32;
    let param = |param: &Value| Param {
        name: text(&param["name"]),
        kind: text(&param["type"]),
        aligned: param["div16"] == true,
    };
    let constants = entry["constexprs"].as_object().expect("constants").iter();
    let value = |value: &Value| value.as_i64().unwrap_or_else(|| i64::from(value == &Value::Bool(true)));
    Variant {
        id: text(&entry["id"]),
        kernel: text(&entry["kernel"]),
        params: entry["params"].as_array().expect("parameters").iter().map(param).collect(),
        constants: constants.map(|(name, constant)| (name.clone(), value(constant))).collect(),
        threads: 32 * number(&entry["num_warps"]),
        shared: number(&entry["shared"]),
        cubin: std::fs::read(format!("{FOLDER}/{}", text(&entry["cubin"])))
            .expect("the manifest names cubins that are there"),
    }
}

/// The variant whose cubin begins here.
///
/// # Safety
/// A whole cubin begins at `image`.
pub(crate) unsafe fn by_image(image: *const u8) -> Option<&'static Variant> {
    // SAFETY: a cubin has at least the 64 bytes of an ELF header.
    let header = unsafe { std::slice::from_raw_parts(image, 64) };
    if &header[..4] != b"\x7fELF" {
        return None;
    }
    let same = |variant: &&Variant| {
        // SAFETY: of cubins with equal headers, which say where the section headers lie, the lengths are equal.
        let whole = || unsafe { std::slice::from_raw_parts(image, variant.cubin.len()) };
        variant.cubin[..64] == *header && whole() == variant.cubin.as_slice()
    };
    variants().iter().find(same)
}
