//! The library as programs use it: tasks and threads, handles that outlive each other, refusals that can be matched, two engines.

use millstream::checkpoint::LoadFormat;
use millstream::{
    Capture, Checkpoint, Ended, Engine, Failure, Generation, LogitRules, Output, RequestError, Sampling, Stream,
    ValidRequest,
};
use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

fn engine() -> Engine {
    Engine::builder(Checkpoint::embedded()).threads(1).build().expect("an engine builds")
}

fn request(engine: &Engine, which: u64, tokens: u32) -> Generation {
    let sampling = Sampling { temperature: 0.8, request: which, ..Sampling::GREEDY };
    let prompt = engine.encode(["Ownership is", "A vector", "fn main"][which as usize % 3]).expect("it fits");
    Generation { sampling, logprobs: Some(2), ignore_eos: true, ..Generation::greedy(prompt, tokens) }
}

/// Wakes the thread that polls.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let (waker, mut future) = (Waker::from(Arc::new(Unpark(std::thread::current()))), pin!(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Polls all of them on this thread until all are done.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut open: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in open.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(context) {
                *output = Some(ready);
            }
        }
        if open.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    open.into_iter().map(|(_, output)| output.expect("all are done")).collect()
}

#[test]
fn handles_streams_and_requests_go_to_any_thread() {
    fn anywhere<T: Send + Sync + 'static>() {}
    fn movable<T: Send + 'static>() {}
    fn cloned<T: Clone>() {}
    anywhere::<Engine>();
    cloned::<Engine>();
    movable::<Stream>();
    movable::<ValidRequest>();
    anywhere::<RequestError>();
    anywhere::<Failure>();
}

#[test]
fn tasks_on_one_thread_hear_what_threads_hear() {
    let engine = engine();
    // More than may run and wait at once, so that some wait for room as tasks.
    let ask = |which| request(&engine, which, 6);
    let polled = block_on(all((0..600).map(|which| engine.generate(ask(which))).collect()));
    for (which, completion) in polled.into_iter().enumerate().filter(|(which, _)| which % 97 == 0) {
        let waited = engine.generate_blocking(ask(which as u64)).expect("it is good");
        let completion = completion.expect("it is good");
        assert_eq!(completion, waited, "request {which}");
        assert_eq!((completion.tokens.len(), &completion.ended), (6, &Ended::Length));
        assert_eq!(
            completion.text,
            engine.tokenizer().expect("it has one").decode(&completion.token_ids()).expect("it decodes")
        );
        let sum: f64 =
            completion.tokens.iter().filter_map(|token| Some(f64::from(token.logprob.as_ref()?.logprob))).sum();
        assert_eq!(completion.logprob(), Some(sum));
    }
}

#[test]
fn a_stream_is_polled_token_by_token() {
    let engine = engine();
    let waited: Vec<Output> = engine.submit(request(&engine, 1, 20)).collect();
    let polled = block_on(async {
        let mut stream = engine.submit_async(request(&engine, 1, 20)).await;
        let mut outputs = vec![];
        while let Some(output) =
            std::future::poll_fn(|context| futures_core::Stream::poll_next(Pin::new(&mut stream), context)).await
        {
            outputs.push(output);
        }
        outputs
    });
    assert_eq!(polled, waited);
}

#[test]
fn a_stream_that_is_dropped_makes_room() {
    let bounds = millstream::Bounds { max_num_seqs: Some(1), ..millstream::Bounds::default() };
    let engine = Engine::builder(Checkpoint::embedded()).threads(1).bounds(bounds).build().expect("an engine builds");
    for which in 0..6 {
        let mut long = engine.submit(request(&engine, which, 1000));
        for _ in 0..which {
            assert!(matches!(long.next(), Some(Output::Token(_))));
        }
    }
    drop(engine.generate(request(&engine, 7, 1000)));
    assert_eq!(engine.generate_blocking(request(&engine, 8, 4)).expect("it is good").tokens.len(), 4);
    let summary = millstream::trace::Summary::of(&engine.recording());
    assert!(summary.steps < 500, "what nobody reads is not generated: {} steps", summary.steps);
}

#[test]
fn a_stream_outlives_the_handles() {
    let engine = engine();
    let stream = engine.submit(request(&engine, 2, 30));
    drop(engine);
    assert_eq!(stream.wait().expect("it is good").tokens.len(), 30);
}

/// A task that nobody holds but its waker.
struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        // The last reference to the task goes here, on a thread of the engine.
    }
}

struct Tells(Sender<String>);

impl Drop for Tells {
    fn drop(&mut self) {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.0.send(name).expect("the test waits");
    }
}

#[test]
fn the_last_handle_may_be_dropped_on_a_thread_of_the_engine() {
    let (tell, told): (Sender<String>, Receiver<String>) = channel();
    let engine = engine();
    let generation = request(&engine, 3, 50);
    let tells = Tells(tell);
    let future = async move {
        // Dropped in the order of their declaration reversed: the engine first, then the one who tells.
        let _tells = tells;
        let engine = engine;
        drop(engine.generate(generation).await);
        std::future::pending::<()>().await;
    };
    let task = Arc::new(Task { future: Mutex::new(Some(Box::pin(future))) });
    let waker = Waker::from(task.clone());
    let poll = |held: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>| {
        held.as_mut().expect("it is there").as_mut().poll(&mut Context::from_waker(&waker))
    };
    assert!(poll(&mut task.future.lock().expect("nobody panics")).is_pending());
    drop((waker, task));
    // The waker that the stream registered is the last to hold the task; the first token drops it there.
    assert_eq!(told.recv().expect("the task is dropped"), "text");
}

#[test]
fn what_cannot_be_done_is_refused_before_it_is_begun() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/llama");
    let checkpoint = Checkpoint::open(&dir, LoadFormat::Mmap).expect("a fixture");
    let engine = Engine::builder(checkpoint).threads(1).build().expect("an engine builds");
    let greedy = |prompt: &[u32], tokens| Generation::greedy(prompt.to_vec(), tokens);
    let check = |generation: Generation, message: &str, code: &str| {
        let error = engine.validate(generation.clone()).expect_err("it is refused");
        assert_eq!((error.to_string().as_str(), error.code()), (message, code));
        assert_eq!(engine.generate_blocking(generation.clone()), Err(Failure::Refused(error.clone())));
        let outputs: Vec<Output> = engine.submit(generation).collect();
        assert_eq!(outputs, [Output::Ended(Ended::Failed(Failure::Refused(error)))]);
    };
    let vocabulary = 512;
    check(greedy(&[], 4), "the prompt is empty, at least 1 token is needed", "no_prompt");
    check(greedy(&[1, vocabulary], 4), "prompt[1] is 512, must be a token id from 0 to 511", "invalid_value");
    check(
        Generation { stop_token_ids: vec![3, 4, u32::MAX], ..greedy(&[1], 4) },
        "stop_token_ids[2] is 4294967295, must be a token id from 0 to 511",
        "invalid_value",
    );
    let rules = LogitRules { bias: vec![(vocabulary, 1.0)], ..LogitRules::default() };
    check(
        Generation { rules, ..greedy(&[1], 4) },
        "logit_bias[0] is 512, must be a token id from 0 to 511",
        "invalid_value",
    );
    check(
        Generation { capture: Capture::All, ..greedy(&[1], 4) },
        "capture: the engine was built without capture_logits",
        "invalid_value",
    );
    check(
        Generation { stop: vec!["x".into()], ..greedy(&[1], 4) },
        "stop: the model has no tokenizer; give stop_token_ids",
        "no_tokenizer",
    );
    check(
        Generation { logprobs: Some(21), ..greedy(&[1], 4) },
        "logprobs is 21, at most 20 likeliest tokens are told",
        "invalid_value",
    );
    check(greedy(&[1; 250], 20), "250 prompt tokens and max_tokens 20 exceed max_model_len 256", "prompt_too_long");
    assert!(matches!(engine.encode("text"), Err(RequestError::NoTokenizer { field: "prompt", .. })));
    let embedded = self::engine();
    let positions = embedded.plan().data().settings.max_model_len;
    let long = "a".repeat(256 * positions as usize + 1);
    let error = embedded.encode(&long).expect_err("it is not tokenised");
    assert_eq!(error, RequestError::TextTooLong { bytes: long.len(), limit: long.len() - 1, max_model_len: positions });
}

#[test]
fn two_engines_share_a_process() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/qwen3");
    let checkpoint = Checkpoint::open(&dir, LoadFormat::Mmap).expect("a fixture");
    let other = Engine::builder(checkpoint).threads(1).build().expect("an engine builds");
    let engine = engine();
    let alone = engine.generate_blocking(request(&engine, 4, 12)).expect("it is good");
    let ask = |_| other.submit(Generation { ignore_eos: true, ..Generation::greedy(vec![1, 2, 3], 40) });
    let beside: Vec<Stream> = (0..4).map(ask).collect();
    assert_eq!(engine.generate_blocking(request(&engine, 4, 12)).expect("it is good"), alone);
    assert!(beside.into_iter().all(|stream| stream.wait().expect("it is good").tokens.len() == 40));
}
