//! Makes typed launchers of the manifest of compiled GPU kernels: for each kernel a struct of its parameters in their order, and a table
//! of its variants with their code. Needs neither Python nor CUDA.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where a crate lies");
    let folder = Path::new(&root).join("gpu");
    let manifest = folder.join("manifest.json");
    println!("cargo::rerun-if-changed={}", manifest.display());
    let text = std::fs::read_to_string(&manifest).expect("gpu/manifest.json is part of the crate");
    let made: Value = serde_json::from_str(&text).expect("gpu/manifest.json is JSON");
    let entries = made["kernels"].as_array().expect("gpu/manifest.json: kernels is a list");
    let mut code = String::new();
    let mut kernels: BTreeMap<&str, &Value> = BTreeMap::new();
    for entry in entries {
        let first = *kernels.entry(text_of(entry, "kernel")).or_insert(entry);
        assert_eq!(names(first), names(entry), "{}: variants of one kernel have the same parameters", entry["id"]);
    }
    for (kernel, entry) in kernels {
        arguments(&mut code, kernel, entry);
    }
    writeln!(code, "/// Every compiled kernel.\npub(crate) static VARIANTS: &[Variant] = &[").expect(ROOM);
    for entry in entries {
        variant(&mut code, entry, &folder);
    }
    writeln!(code, "];").expect(ROOM);
    let out = std::env::var("OUT_DIR").expect("cargo says where to write");
    std::fs::write(Path::new(&out).join("kernels.rs"), code).expect("cargo's folder can be written");
}

const ROOM: &str = "a string takes what is written";

fn text_of<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry[key].as_str().unwrap_or_else(|| panic!("{}: {key}: wanted a text, got {}", entry["id"], entry[key]))
}

fn number(entry: &Value, key: &str) -> u64 {
    entry[key].as_u64().unwrap_or_else(|| panic!("{}: {key}: wanted a number, got {}", entry["id"], entry[key]))
}

fn params(entry: &Value) -> impl Iterator<Item = (&str, &str)> {
    let list = entry["params"].as_array().expect("params is a list");
    list.iter().map(|param| (text_of(param, "name"), text_of(param, "type")))
}

fn names(entry: &Value) -> Vec<(&str, &str)> {
    params(entry).map(|(name, kind)| (name, kind.split(':').next().unwrap_or(kind))).collect()
}

/// `merge_splits` as `MergeSplits`.
fn camel(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').filter(|part| !part.is_empty()).map(word).collect()
}

fn arguments(code: &mut String, kernel: &str, entry: &Value) {
    let name = camel(kernel);
    let (mut fields, mut writes) = (String::new(), String::new());
    for (param, kind) in names(entry) {
        let (kind, write) = match kind {
            "ptr" => ("Address", "pointer"),
            "i32" => ("i32", "int"),
            "i64" => ("i64", "long"),
            "f32" | "fp32" => ("f32", "float"),
            other => panic!("{kernel}: parameter {param} has the unknown type {other}"),
        };
        writeln!(fields, "    pub(crate) {param}: {kind},").expect(ROOM);
        writeln!(writes, "        to.{write}(self.{param});").expect(ROOM);
    }
    write!(
        code,
        "/// The parameters of `{kernel}`, in their order; see `{}`.\npub(crate) struct {name} {{\n{fields}}}\n\n\
         impl Arguments for {name} {{\n    const KERNEL: &'static str = \"{kernel}\";\n\n    \
         fn write(&self, to: &mut Parameters) {{\n{writes}    }}\n}}\n\n",
        text_of(entry, "source")
    )
    .expect(ROOM);
}

fn variant(code: &mut String, entry: &Value, folder: &Path) {
    let cubin = folder.join(text_of(entry, "cubin"));
    println!("cargo::rerun-if-changed={}", cubin.display());
    let aligned = entry["params"].as_array().expect("params is a list").iter().enumerate();
    let aligned = aligned.filter(|(_, param)| param["div16"] == true).fold(0u64, |mask, (at, _)| mask | 1 << at);
    let kinds: Vec<String> = params(entry).map(|(name, kind)| format!("({name:?}, {kind:?})")).collect();
    let constants = entry["constexprs"].as_object().expect("constexprs is an object");
    let constant =
        |value: &Value| value.as_i64().unwrap_or_else(|| i64::from(value.as_bool().expect("a number or a flag")));
    let constants: Vec<String> =
        constants.iter().map(|(name, value)| format!("({name:?}, {})", constant(value))).collect();
    writeln!(
        code,
        "    Variant {{ id: {:?}, kernel: {:?}, params: &[{}], constants: &[{}], warps: {}, shared: {}, aligned: {aligned:#x}, \
         cubin: include_bytes!({:?}) }},",
        text_of(entry, "id"),
        text_of(entry, "kernel"),
        kinds.join(", "),
        constants.join(", "),
        number(entry, "num_warps"),
        number(entry, "shared"),
        cubin.display().to_string(),
    )
    .expect(ROOM);
}
