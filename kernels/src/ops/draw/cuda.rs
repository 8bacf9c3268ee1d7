//! Draws tokens from logits that lie on a GPU: settings up, launches, tokens down.
//!
//! A row is looked through in blocks by programs of their own (`survey_blocks`, `weigh_blocks`), so that one row does not wait for one program; `draw` then
//! goes over what they found. Rows are taken in portions, since those cut by top-k or top-p list their candidates.

use crate::cuda::Launcher;
use crate::cuda::arguments::{Draw, Score, SurveyBlocks, WeighBlocks};
use crate::cuda::driver::{Address, Device, DeviceMemory, DriverFault, Pinned, Stream};
use crate::draws::{Drawn, DrawnToken, TOP_MAX, TokenDraw, Wanted as Token};
use crate::error::KernelError;
use std::sync::Arc;

/// Bytes that lists of candidates may take.
const LIST_BYTES: u64 = 64 << 20;
/// Lists of settings: counts of portions, temperature, top-k, top-p, min-p, position, given, likeliest; then five words of a key.
const SETTINGS: usize = 8;
const KEY_WORDS: usize = 5;
/// Lists of results: token, fault, log-probability, rank.
const RESULTS: usize = 4;
/// What a row is marked with that has no token, and one whose token is to be drawn.
const NOTHING: i32 = -2;
const TO_BE_DRAWN: i32 = -1;
/// The fault of a row with a logit that is no number.
const STRANGE: i32 = 1;

/// Which output of a program has logits, and what may be drawn of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Logits {
    /// The output.
    pub port: usize,
    /// Elements of a row.
    pub vocab: u32,
    /// Tokens below this are drawn.
    pub allowed: u32,
}

impl Logits {
    /// The largest vocabulary that can be drawn from.
    pub const VOCAB_MAX: u32 = 2048 * 256;
}

/// Room and kernels for the largest step.
pub(crate) struct TokenDrawer {
    logits: Logits,
    rows_max: usize,
    portion: u32,
    settings: (Pinned, DeviceMemory),
    results: (Pinned, DeviceMemory),
    /// Ids and log-probabilities of the likeliest tokens, `TOP_MAX` a row each.
    top: (Pinned, DeviceMemory),
    /// What the blocks of a portion's rows hold, four bytes each but the weights; and listed candidates.
    blocks: DeviceMemory,
    listed: DeviceMemory,
    launcher: Launcher,
}

impl TokenDrawer {
    pub(crate) fn new(device: &Arc<Device>, logits: Logits, rows_max: u32) -> Result<Self, KernelError> {
        // Lists of f32 begin on 16 bytes.
        let rows = rows_max.max(1).next_multiple_of(16) as usize;
        let vocab = u64::from(logits.vocab.max(1));
        let portion = (LIST_BYTES / (vocab * 4) / 4 * 4).clamp(4, rows as u64) as u32;
        let both = |bytes: usize, what| -> Result<_, DriverFault> {
            Ok((Pinned::zeroed(device, bytes)?, DeviceMemory::zeroed(device, bytes as u64, what)?))
        };
        let launcher = Launcher::new(device, "draw");
        let block = launcher.variant::<SurveyBlocks>()?.constant("BLOCK") as u32;
        let in_blocks = u64::from(portion * logits.allowed.div_ceil(block)) * 24;
        Ok(Self {
            logits,
            rows_max: rows,
            portion,
            settings: both(rows * (SETTINGS + KEY_WORDS) * 4, "settings of draws")?,
            results: both(rows * RESULTS * 4, "drawn tokens")?,
            top: both(rows * TOP_MAX as usize * 8, "likeliest tokens")?,
            blocks: DeviceMemory::zeroed(device, in_blocks, "blocks of logits")?,
            listed: DeviceMemory::zeroed(device, u64::from(portion) * vocab * 4, "candidates")?,
            launcher,
        })
    }

    /// The output that it draws from.
    pub(crate) fn port(&self) -> usize {
        self.logits.port
    }

    fn setting(&self, list: usize, row: u32) -> Address {
        self.settings.1.address().offset((list * self.rows_max + row as usize) as u64 * 4)
    }

    fn result(&self, list: usize, row: u32) -> Address {
        self.results.1.address().offset((list * self.rows_max + row as usize) as u64 * 4)
    }

    /// Enqueues the draws of a step from its logits, and the way back of what is found. The last step's are no longer under way.
    pub(crate) fn enqueue(&mut self, draws: &[TokenDraw], logits: Address, stream: &Stream) -> Result<(), KernelError> {
        assert!(draws.len() <= self.rows_max, "a step has no more rows than there is room for");
        if draws.is_empty() {
            return Ok(());
        }
        self.write(draws);
        // SAFETY: host and device have the same length, and nothing runs that uses them.
        unsafe { stream.upload(self.settings.0.as_bytes(), self.settings.1.address()) }?;
        let scored = draws.iter().any(|draw| draw.logprobs.is_some());
        for (number, rows) in draws.chunks(self.portion as usize).enumerate() {
            self.enqueue_portion(number as u32, rows, logits, stream)?;
        }
        let bytes = self.rows_max * RESULTS * 4;
        // SAFETY: host and device have the same length.
        unsafe { stream.download(self.results.1.address(), &mut self.results.0, bytes) }?;
        if scored {
            let bytes = self.rows_max * TOP_MAX as usize * 8;
            // SAFETY: as above.
            unsafe { stream.download(self.top.1.address(), &mut self.top.0, bytes) }?;
        }
        Ok(())
    }

    fn write(&mut self, draws: &[TokenDraw]) {
        let (rows, portion, allowed) = (self.rows_max, self.portion as usize, self.logits.allowed);
        let all = self.settings.0.as_i32_mut();
        for (number, rows) in draws.chunks(portion).enumerate() {
            all[number] = rows.len() as i32;
        }
        for (row, draw) in draws.iter().enumerate() {
            let mut put = |list: usize, value: i32| all[list * rows + row] = value;
            put(6, NOTHING);
            put(7, draw.logprobs.unwrap_or(0).min(TOP_MAX) as i32);
            match draw.wanted {
                Token::Nothing => {}
                Token::Known(token) if token < allowed => put(6, token as i32),
                Token::Known(_) => {}
                Token::Drawn { temperature, top_k, top_p, min_p, key, position } => {
                    put(1, temperature.to_bits() as i32);
                    put(2, top_k.min(i32::MAX as u32) as i32);
                    put(3, top_p.to_bits() as i32);
                    put(4, min_p.to_bits() as i32);
                    put(5, position as i32);
                    put(6, TO_BE_DRAWN);
                    let words = SETTINGS * rows + row * KEY_WORDS;
                    for (at, word) in all[words..words + KEY_WORDS].iter_mut().zip(key) {
                        *at = word as i32;
                    }
                }
            }
        }
    }

    fn enqueue_portion(
        &mut self,
        number: u32,
        draws: &[TokenDraw],
        logits: Address,
        stream: &Stream,
    ) -> Result<(), KernelError> {
        let (first, count) = (number * self.portion, draws.len() as u32);
        let Logits { vocab, allowed, .. } = self.logits;
        let logits = logits.offset(u64::from(first) * u64::from(vocab) * 4);
        let (rows, shaped) = (self.setting(0, number), logits);
        let survey = self.launcher.variant::<SurveyBlocks>()?;
        let blocks = allowed.div_ceil(survey.constant("BLOCK") as u32);
        let lists = |list: u64| self.blocks.address().offset(list * u64::from(self.portion * blocks) * 4);
        let [peak, peak_id, strange, candidates, weight] = [0, 1, 2, 3, 4].map(lists);
        let [temperature, top_k, top_p, min_p, row_position, given, counts] =
            [1, 2, 3, 4, 5, 6, 7].map(|list| self.setting(list, first));
        let words = self.setting(SETTINGS, first * KEY_WORDS as u32);
        let [token, fault, logprob, rank] = [0, 1, 2, 3].map(|list| self.result(list, first));
        let (vocab, allowed) = (vocab as i32, allowed as i32);
        let listed = self.listed.address();
        let arguments = SurveyBlocks { rows, logits, shaped, peak, peak_id, strange, vocab, allowed };
        let launcher = &mut self.launcher;
        // SAFETY: all that is named lives as long as self, whose owner waits for its stream.
        unsafe { launcher.launch(stream, &arguments, [count, blocks, 1]) }?;
        let by_chance = |draw: &TokenDraw| matches!(draw.wanted, Token::Drawn { temperature, .. } if temperature > 0.0);
        if draws.iter().any(by_chance) {
            let arguments = WeighBlocks { rows, shaped, peak, temperature, min_p, weight, candidates, vocab, allowed };
            // SAFETY: as above.
            unsafe { launcher.launch(stream, &arguments, [count, blocks, 1]) }?;
        }
        let blocks = blocks as i32;
        let arguments = Draw {
            rows,
            shaped,
            listed,
            peak,
            peak_id,
            strange,
            weight,
            candidates,
            given,
            temperature,
            top_k,
            top_p,
            min_p,
            words,
            row_position,
            token,
            fault,
            blocks,
            vocab,
            allowed,
        };
        // SAFETY: as above.
        unsafe { launcher.launch(stream, &arguments, [count, 1, 1]) }?;
        if draws.iter().any(|draw| draw.logprobs.is_some()) {
            let ids = self.top.1.address();
            let at = u64::from(first * TOP_MAX) * 4;
            let top_id = ids.offset(at);
            let top_logprob = ids.offset(self.rows_max as u64 * u64::from(TOP_MAX) * 4 + at);
            let most = TOP_MAX as i32;
            let arguments =
                Score { rows, logits, token, counts, logprob, rank, top_id, top_logprob, vocab, allowed, most };
            // SAFETY: as above.
            unsafe { launcher.launch(stream, &arguments, [count, 1, 1]) }?;
        }
        Ok(())
    }

    /// What was found, once the stream was waited for.
    pub(crate) fn read(&self, draws: &[TokenDraw], drawn: &mut Drawn) {
        drawn.clear();
        let results: &[i32] = bytemuck::cast_slice(&self.results.0.as_bytes()[..self.rows_max * RESULTS * 4]);
        let (ids, logprobs): (&[i32], &[f32]) = {
            let bytes = self.rows_max * TOP_MAX as usize * 4;
            let all = self.top.0.as_bytes();
            (bytemuck::cast_slice(&all[..bytes]), bytemuck::cast_slice(&all[bytes..2 * bytes]))
        };
        for (row, draw) in draws.iter().enumerate() {
            let of = |list: usize| results[list * self.rows_max + row];
            let token = u32::try_from(of(0)).ok();
            let count = draw.logprobs.filter(|_| token.is_some()).unwrap_or(0).min(TOP_MAX).min(self.logits.allowed);
            let (first, from) = (drawn.top.len() as u32, row * TOP_MAX as usize);
            let likeliest = ids[from..].iter().zip(&logprobs[from..]).take(count as usize);
            drawn.top.extend(likeliest.map(|(&id, &logprob)| (id as u32, logprob)));
            let score = draw.logprobs.and(token).map(|_| (f32::from_bits(of(2) as u32), of(3) as u32));
            let top = (first, count);
            drawn.rows.push(DrawnToken { token, is_finite: of(1) != STRANGE, score, top });
        }
    }
}
