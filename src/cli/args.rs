//! What the commands take. Flag names are vLLM's where it has one.

use super::kinds::{DeviceKind, Numerics};
use crate::checkpoint::{Checkpoint, LoadFormat};
use crate::engine::{Engine, EngineBuilder};
use crate::error::Error;
use crate::job::Job;
use crate::supervise::Handles;
use actors::trace::Level;
use clap::{Args, Parser, Subcommand};
use graph::DType;
use graph::plan::{Bounds, Quantization};
use std::path::PathBuf;

/// An actor-based dataflow inference engine for large language models.
#[derive(Parser, Debug)]
#[command(name = "millstream", version)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run a JSONL job: one request a line in, one result a line out.
    Run(Run),
    /// Score continuations of a JSONL job, or texts: log-probabilities, perplexity.
    Score(Score),
    /// Continue one prompt on the terminal.
    Generate(Generate),
    /// Compare the model with the reference logits and tokens in its folder.
    Parity(Parity),
    /// Measure prefill and decode, beside the machine's own limits.
    Bench(Bench),
    /// Say what bounded a run, from the file that --trace wrote; as a page; or what changed between two runs.
    Trace(Trace),
    /// Show the plan: actors, placement, credits, bytes.
    Plan(Plan),
    /// Run the model under every legal layout of up to four devices and compare each with one device.
    ShardCheck(ShardCheck),
    /// List the architectures known.
    Models(Models),
}

/// How the model is loaded and deployed.
#[derive(Args, Debug, Clone)]
pub(super) struct Deploy {
    /// A model folder in Hugging Face layout; the embedded model unless given.
    #[arg(long, value_name = "DIR")]
    pub(super) model: Option<PathBuf>,
    /// How weights are read: mmap or read.
    #[arg(long, default_value = "mmap", value_parser = load_format)]
    load_format: LoadFormat,
    /// Random weights from config.json alone.
    #[arg(long)]
    pub(super) dummy_weights: bool,
    /// Kind of the devices.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceKind,
    /// Devices, one a rank: cpu:0,cpu:1.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    devices: Option<Vec<String>>,
    /// Ranks that share each layer (-tp).
    #[arg(long, default_value_t = 1, value_name = "N")]
    tensor_parallel_size: u32,
    /// Stages of the pipeline (-pp).
    #[arg(long, default_value_t = 1, value_name = "N")]
    pipeline_parallel_size: u32,
    /// Replicas of all of it that requests are dealt to (-dp).
    #[arg(long, default_value_t = 1, value_name = "N")]
    data_parallel_size: u32,
    /// Ranks that the experts of a layer are dealt out to: 1, or the tensor degree (-ep).
    #[arg(long, default_value_t = 1, value_name = "N")]
    expert_parallel_size: u32,
    /// Layers a stage: 10,12,10.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    layer_partition: Option<Vec<u32>>,
    /// Weights in memory: auto (as stored), f32, bf16, f16.
    #[arg(long, default_value = "auto", value_parser = dtype)]
    dtype: Auto,
    /// Keys and values: auto, f32, bf16, f16.
    #[arg(long, default_value = "auto", value_parser = dtype)]
    kv_cache_dtype: Auto,
    /// What is quantised when weights are loaded: q8_0 and q4_0 (rows are quantised too: integer arithmetic), q8_0-weight-only,
    /// q4_0-weight-only.
    #[arg(long, short = 'q', value_name = "METHOD", value_parser = quantization)]
    quantization: Option<Quantization>,
    /// What the bits of a result may depend on.
    #[arg(long, value_enum, default_value = "invariant")]
    numerics: Numerics,
    /// Positions of the longest sequence.
    #[arg(long, value_name = "N")]
    pub(super) max_model_len: Option<u32>,
    /// Sequences that run at the same time.
    #[arg(long, value_name = "N")]
    pub(super) max_num_seqs: Option<u32>,
    /// Rows of the largest step.
    #[arg(long, value_name = "N")]
    pub(super) max_num_batched_tokens: Option<u32>,
    /// Bytes of key/value cache a device.
    #[arg(long, value_name = "N")]
    kv_cache_memory_bytes: Option<u64>,
    /// Threads of the process; one a core unless given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Every prompt computes its own pages.
    #[arg(long)]
    no_enable_prefix_caching: bool,
    /// Take weights that are not finite or absurdly large as they are.
    #[arg(long)]
    no_weight_scan: bool,
}

/// A number that `fits`, or what is allowed.
fn number(text: &str, allowed: &str, fits: impl FnOnce(f32) -> bool) -> Result<f32, String> {
    text.parse().ok().filter(|&number: &f32| fits(number)).ok_or_else(|| format!("allowed: {allowed}"))
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, "0 (takes the likeliest) or a finite number above it", |t| t.is_finite() && t >= 0.0)
}

fn top_p(text: &str) -> Result<f32, String> {
    number(text, "above 0, at most 1", |p| p > 0.0 && p <= 1.0)
}

fn min_p(text: &str) -> Result<f32, String> {
    number(text, "from 0 to 1", |p| (0.0..=1.0).contains(&p))
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "allowed: from 0 to 1".into())
}

/// A dtype, or what the checkpoint says.
#[derive(Clone, Copy, Debug)]
struct Auto(Option<DType>);

fn dtype(text: &str) -> Result<Auto, String> {
    match text {
        "auto" => Ok(Auto(None)),
        "f32" | "float32" => Ok(Auto(Some(DType::F32))),
        "bf16" | "bfloat16" => Ok(Auto(Some(DType::Bf16))),
        "f16" | "float16" => Ok(Auto(Some(DType::F16))),
        _ => Err("allowed: auto, f32, bf16, f16".into()),
    }
}

fn quantization(text: &str) -> Result<Quantization, String> {
    let names = Quantization::ALL.map(Quantization::name).join(", ");
    let found = Quantization::ALL.into_iter().find(|quantization| quantization.name() == text);
    found.ok_or_else(|| format!("allowed: {names}"))
}

fn load_format(text: &str) -> Result<LoadFormat, String> {
    match text {
        "mmap" | "auto" => Ok(LoadFormat::Mmap),
        "read" => Ok(LoadFormat::Read),
        _ => Err("allowed: mmap, read".into()),
    }
}

impl Deploy {
    /// The checkpoint named, or the embedded one.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint, Error> {
        match &self.model {
            None => Ok(Checkpoint::embedded()),
            Some(dir) if self.dummy_weights => Checkpoint::dummy(dir),
            Some(dir) => Checkpoint::open(dir, self.load_format),
        }
    }

    /// A builder with all of this set.
    pub(super) fn builder(&self) -> Result<EngineBuilder, Error> {
        let mut builder = Engine::builder(self.checkpoint()?)
            .device(self.device.of_engine())
            .tensor_parallel_size(self.tensor_parallel_size)
            .pipeline_parallel_size(self.pipeline_parallel_size)
            .data_parallel_size(self.data_parallel_size)
            .expert_parallel_size(self.expert_parallel_size)
            .numerics(self.numerics.of_plan())
            .bounds(Bounds {
                max_num_seqs: self.max_num_seqs,
                max_num_batched_tokens: self.max_num_batched_tokens,
                max_model_len: self.max_model_len,
                kv_cache_memory_bytes: self.kv_cache_memory_bytes,
                sampled_rows_max: None,
            })
            .pin_threads();
        if self.dummy_weights {
            builder = builder.dummy_weights();
        }
        if let Some(devices) = &self.devices {
            builder = builder.devices(devices.iter().cloned());
        }
        if let Some(layers) = &self.layer_partition {
            builder = builder.layer_partition(layers.clone());
        }
        if let Some(dtype) = self.dtype.0 {
            builder = builder.dtype(dtype);
        }
        if let Some(quantization) = self.quantization {
            builder = builder.quantization(quantization);
        }
        if let Some(dtype) = self.kv_cache_dtype.0 {
            builder = builder.kv_cache_dtype(dtype);
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        if self.no_enable_prefix_caching {
            builder = builder.without_prefix_caching();
        }
        if self.no_weight_scan {
            builder = builder.without_weight_scan();
        }
        Ok(builder)
    }
}

/// What is recorded of a run, and where that goes.
#[derive(Args, Debug, Clone)]
pub(super) struct Tracing {
    /// Write what every actor did and waited for, for ui.perfetto.dev and `millstream trace`.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Write the same as a page for any browser, which needs no network: OUT.html.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// What is recorded: off, step (acts and waits), hop (messages, depths and counters too).
    #[arg(long, default_value = "hop", value_name = "LEVEL", value_parser = level)]
    pub(super) trace_level: Level,
}

fn level(text: &str) -> Result<Level, String> {
    match text {
        "off" => Ok(Level::Off),
        "step" => Ok(Level::Step),
        "hop" => Ok(Level::Hop),
        _ => Err("allowed: off, step, hop".into()),
    }
}

/// How a job deals with its lines.
#[derive(Args, Debug, Clone)]
pub(super) struct Lines {
    /// Go on with a job that was paused or killed.
    #[arg(long)]
    pub(super) resume: bool,
    /// Pause when more than this share of the lines are error records.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) max_error_rate: Option<f64>,
    /// Refuse the job before it starts if any line is bad.
    #[arg(long)]
    pub(super) strict: bool,
}

impl Lines {
    /// The job with all of this set.
    pub(super) fn apply(&self, mut job: Job) -> Job {
        if self.resume {
            job = job.resume();
        }
        if self.strict {
            job = job.strict();
        }
        match self.max_error_rate {
            Some(share) => job.max_error_rate(share),
            None => job,
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Run {
    /// The job: a JSONL file, or - for standard input.
    pub(super) job: PathBuf,
    /// Where results go. What is done is kept in FILE.journal.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) lines: Lines,
    /// Seed of requests that have none of their own.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Write values inside the model as well, by module path (model.layers.3.self_attn.o_proj; * is any text): a safetensors file a line
    /// in FILE.captures.
    #[arg(long, value_delimiter = ',', value_name = "EDGE")]
    pub(super) capture: Vec<String>,
    /// Print the plan, and what every queue and buffer holds at most, before the job begins.
    #[arg(long)]
    pub(super) explain: bool,
    /// Run in this process, without a parent that starts it again.
    #[arg(long)]
    pub(super) no_supervise: bool,
    /// How long after SIGTERM or SIGHUP requests in flight may take; those that take longer run again.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub(super) drain_seconds: u64,
    /// What a lost terminal (SIGHUP) does: drain pauses the job, detach goes on.
    #[arg(long, value_name = "WHAT", default_value = "drain", value_parser = on_hangup)]
    pub(super) on_hangup: OnHangup,
    /// What the parent process has left open.
    #[arg(long, hide = true, value_parser = handles)]
    pub(super) supervised: Option<Handles>,
    #[command(flatten)]
    pub(super) tracing: Tracing,
    #[command(flatten)]
    pub(super) deploy: Deploy,
}

/// What a lost terminal does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OnHangup {
    /// What SIGTERM does.
    Drain,
    /// Nothing.
    Detach,
}

fn on_hangup(text: &str) -> Result<OnHangup, String> {
    match text {
        "drain" => Ok(OnHangup::Drain),
        "detach" => Ok(OnHangup::Detach),
        _ => Err("allowed: drain, detach".into()),
    }
}

fn handles(text: &str) -> Result<Handles, String> {
    let numbers =
        text.split_once(',').and_then(|(lifeline, sheet)| Some((lifeline.parse().ok()?, sheet.parse().ok()?)));
    numbers
        .map(|(lifeline, sheet)| Handles { lifeline, sheet })
        .ok_or_else(|| "only a parent process gives this".into())
}

#[derive(Args, Debug)]
pub(super) struct Score {
    /// The job: a JSONL file of {custom_id, prompt, continuations}, or - for standard input.
    #[arg(required_unless_present = "text", conflicts_with = "text")]
    pub(super) job: Option<PathBuf>,
    /// Where results go. What is done is kept in FILE.journal.
    #[arg(short, long, value_name = "FILE", required_unless_present = "text", conflicts_with = "text")]
    pub(super) output: Option<PathBuf>,
    /// Texts whose perplexity is wanted, one document a file.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) text: Vec<PathBuf>,
    /// New tokens of a window over a text; --max-model-len unless given.
    #[arg(long, value_name = "N", requires = "text")]
    pub(super) stride: Option<usize>,
    /// Take continuations as generated: by the form of generated rows, where an op has two.
    #[arg(long)]
    pub(super) as_generated: bool,
    /// Print the figures of --text as JSON.
    #[arg(long, requires = "text")]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) lines: Lines,
    #[command(flatten)]
    pub(super) tracing: Tracing,
    #[command(flatten)]
    pub(super) deploy: Deploy,
}

#[derive(Args, Debug)]
pub(super) struct Generate {
    /// The prompt; - reads standard input.
    pub(super) prompt: String,
    /// Puts the prompt into the model's chat template as a message of the user. Without it the prompt is continued as it stands.
    #[arg(long)]
    pub(super) chat: bool,
    /// A system message before it.
    #[arg(long, requires = "chat")]
    pub(super) system: Option<String>,
    /// Tokens at most.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_tokens: u32,
    /// Divides the logits; 0 takes the largest.
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    pub(super) temperature: f32,
    /// Keeps this many of the likeliest; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    pub(super) top_k: u32,
    /// Keeps the smallest set whose probability reaches this.
    #[arg(long, default_value_t = 1.0, value_parser = top_p)]
    pub(super) top_p: f32,
    /// Drops tokens less likely than this share of the likeliest.
    #[arg(long, default_value_t = 0.0, value_parser = min_p)]
    pub(super) min_p: f32,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    #[command(flatten)]
    pub(super) tracing: Tracing,
    #[command(flatten)]
    pub(super) deploy: Deploy,
}

#[derive(Args, Debug)]
pub(super) struct Parity {
    /// Largest difference of a logit; with --reference, of an element, relative to the largest of its edge where that is over 1.
    #[arg(long)]
    pub(super) tolerance: Option<f32>,
    /// Compare values inside the model instead, with those that tools/dump_reference.py or `run --capture` wrote, and name the first
    /// edge that differs.
    #[arg(long, value_name = "FILE")]
    pub(super) reference: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) tracing: Tracing,
    #[command(flatten)]
    pub(super) deploy: Deploy,
}

#[derive(Args, Debug)]
pub(super) struct ShardCheck {
    /// Print the figures as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) tracing: Tracing,
    #[command(flatten)]
    pub(super) deploy: Deploy,
}

#[derive(Args, Debug)]
pub(super) struct Bench {
    /// Tokens of a prompt; 0 measures no prompts.
    #[arg(short = 'p', long, default_value_t = 512)]
    pub(super) n_prompt: u32,
    /// Tokens to generate; 0 measures no generating.
    #[arg(short = 'n', long, default_value_t = 128)]
    pub(super) n_gen: u32,
    /// Sequences at once, while generating: 1,8,32.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) batch: Vec<u32>,
    /// Rounds, of limit, engine and limit each.
    #[arg(short = 'r', long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) repetitions: u32,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) tracing: Tracing,
    #[command(flatten)]
    pub(super) deploy: Deploy,
}

#[derive(Args, Debug)]
pub(super) struct Plan {
    /// In words (the default).
    #[arg(long)]
    pub(super) explain: bool,
    /// As JSON, which the engine reads back.
    #[arg(long, conflicts_with = "explain")]
    pub(super) json: bool,
    /// As a picture: devices, actors, communicators and pools, bytes and credits of what flows between them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["explain", "json"])]
    pub(super) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(super) deploy: Deploy,
}

#[derive(Args, Debug)]
pub(super) struct Trace {
    /// The file.
    pub(super) file: PathBuf,
    /// The file of another run: say what changed from the first to this one.
    pub(super) other: Option<PathBuf>,
    /// Write a page for any browser, which needs no network.
    #[arg(long, value_name = "OUT", conflicts_with_all = ["other", "json"])]
    pub(super) html: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Models {
    /// As JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Write BLAKE3SUMS of a model folder, which its files are held against whenever they are loaded.
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    pub(super) manifest: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
