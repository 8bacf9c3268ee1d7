//! `plan` and `models`: what would run, and what can; and the manifest of a model folder.

use super::tell::tell;
use super::{Failure, args, limits, say};
use crate::checkpoint::write_manifest;
use crate::pictures;
use graph::models::FAMILIES;
use graph::plan::explain::explain;

/// Prints the plan of a deployment.
pub(super) fn plan(args: &args::Plan) -> Result<(), Failure> {
    let (architecture, plan) = args.deploy.builder()?.plan()?;
    architecture.notes.iter().for_each(|note| say(format!("note: {note}")));
    if let Some(file) = &args.svg {
        std::fs::write(file, pictures::plan_svg(&plan)).map_err(Failure::io(file.display()))?;
    } else if args.json {
        tell!("{}", plan.to_json())
    } else {
        tell!("{}{}", explain(&plan), limits::explain(&plan, false).trim_end())
    }
    Ok(())
}

/// Prints the families known, or writes the hashes of a folder.
pub(super) fn models(args: &args::Models) -> Result<(), Failure> {
    if let Some(dir) = &args.manifest {
        let (file, files) = write_manifest(dir)?;
        tell!("{}: {files} files", file.display());
        return Ok(());
    }
    if args.json {
        let row = |f: &graph::models::Family| serde_json::json!({"name": f.name, "model_types": f.model_types, "source": f.source});
        tell!("{}", serde_json::Value::Array(FAMILIES.iter().map(row).collect()));
        return Ok(());
    }
    tell!("{:<12} {:<24} source", "family", "model_type");
    for family in FAMILIES {
        tell!("{:<12} {:<24} {}", family.name, family.model_types.join(", "), family.source);
    }
    Ok(())
}
