//! What the queues of an engine hold at most, beside the channels of its plan.

use super::detokenizer::Notice;
use super::replica::{BULLETINS, CANCELS, ORDERS, TRACE_RECORDS};
use super::{Output, conductor};
use crate::limits::Limit;
use actors::lane::ORDERS_MAX;
use actors::trace::Record;
use graph::plan::{Plan, Role};

/// Signals that the mailbox of an actix actor holds; each sender has room for one more.
const MAILBOX: u64 = 16;

/// Sequences to keep under way on a replica: enough for the next step's to be waiting while those of this one run.
pub(crate) fn window(plan: &Plan) -> usize {
    2 * plan.data().settings.max_num_seqs as usize
}

/// Every queue, mailbox and pool of an engine with this plan. Tokens are counted as the longest sequence has them; logits that are sent
/// along, and log-probabilities of likely tokens, come on top for the requests that ask for them.
pub fn limits(plan: &Plan) -> Vec<Limit> {
    let (data, settings) = (plan.data(), &plan.data().settings);
    let lanes = data.devices.len() as u64 + 1;
    let sequences = u64::from(settings.max_num_seqs);
    let prompt = u64::from(settings.max_model_len) * 4 + size_of::<conductor::Order>() as u64;
    let told = u64::from(settings.max_model_len) + 2;
    let (notice, output) = (size_of::<Notice>() as u64, size_of::<Output>() as u64);
    // A turn absorbs all steps in flight and takes in as many orders as may wait.
    let notices = u64::from(settings.in_flight) * u64::from(settings.sampled_rows_max) * 2 + 2 * sequences;
    let pools = data.actors.iter().filter_map(|actor| match actor.role {
        Role::Pool { pages, .. } => Some(u64::from(pages)),
        Role::Batcher | Role::Feed | Role::Stage { .. } | Role::Communicator { .. } | Role::Sampler { .. } => None,
    });
    let mut limits = vec![
        Limit::new("requests on their way to the batcher", (ORDERS as u64, "requests"), prompt),
        Limit::new("requests that wait in the batcher", (2 * sequences, "requests"), prompt),
        Limit::new("requests that run", (sequences, "requests"), prompt),
        Limit::new("cancellations on their way to the batcher", (CANCELS as u64, "ids"), 8),
        Limit::new("mailbox of the conductor", (MAILBOX + 2, "signals"), 1),
        Limit::new("faults on their way to the supervisor", (data.actors.len() as u64 + 1, "faults"), 1024),
        Limit::new("orders on their way to lanes", (lanes * ORDERS_MAX as u64, "orders"), 64),
        Limit::new("bulletins to the detokeniser", (BULLETINS as u64, "bulletins"), notices * notice),
        Limit::new("a stream of one request", (told, "outputs"), output),
        Limit::new("rings of the trace", ((lanes + 1) * TRACE_RECORDS as u64, "records"), size_of::<Record>() as u64),
    ];
    limits.extend(pools.map(|pages| Limit::new("books of the pool", (pages, "pages"), 64)));
    limits
}
