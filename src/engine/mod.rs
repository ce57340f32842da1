//! Runs operations for every interface.
//!
//! The engine owns the store, the batch that is open, the source of chance, and what the daemon does by itself:
//! it expires what is due, makes the units of schedules, removes what was deleted, adds the units of long outputs, and archives. It knows no wire and
//! no sockets.

mod activity;
mod archiver;
mod known_tokens;
mod snapshot;
mod statistics;

pub use activity::Activity;
pub use known_tokens::KnownTokens;
pub use snapshot::{Shown, Snapshot, SpecState};
pub use statistics::{Statistics, Totals};

use crate::clock::{ClockStep, Timestamp};
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{
    Chained, Effects, Error, Happening, Memory, NamespaceId, Operation, Result, Retention,
    StorageError, Token, WaiterId, Waiters, WaitsFor,
};
use crate::limits::{self, Pace, RequestLimits};
use activity::Activities;
use archiver::Archiver;
use rand::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an engine works.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The namespace of CBOR-RPC clients.
    pub namespace: String,
    /// What a request may hold.
    pub limits: RequestLimits,
    /// How long others may have to wait.
    pub pace: Pace,
    /// Which completed units stay.
    pub retention: Retention,
    /// How long entries of the audit stay; `None` for as long as there are not too many.
    pub audit_kept: Option<Duration>,
}

/// Runs operations on a store, in batches: each operation happens whole or not at all, and a batch is committed
/// as one.
pub struct Engine<S: Storage> {
    store: S,
    namespace: NamespaceId,
    random: Box<dyn Rng>,
    settings: Settings,
    memory: Memory,
    /// Those of the present operation. Kept for their memory.
    effects: Effects,
    waiters: Waiters,
    batch: Batch,
    /// What the operations of the open batch have done.
    happened: Vec<Happening>,
    activities: Activities,
    archiver: Archiver,
    /// When the next cleanup step may be taken.
    next_cleanup: Timestamp,
    tokens: Arc<KnownTokens>,
    /// When uses of tokens may be written next.
    next_uses: Timestamp,
    /// When old entries of the audit may be removed next.
    next_prune: Timestamp,
    /// True if there may be more of them.
    is_pruning: bool,
    /// When the history may be written next.
    next_history: Timestamp,
    totals: Totals,
}

/// What is known of the batch that is open.
#[derive(Default)]
struct Batch {
    /// When it began.
    began: Option<Instant>,
    /// Operations that began in it.
    operations: usize,
    /// Bytes of the answers that wait for it.
    answer_bytes: usize,
    /// True if it may have written, so that its answers depend on its commit.
    may_write: bool,
    /// True if more was due than one step expires: the rest is left to the next batch.
    had_sweep: bool,
    /// True if nothing more should join it.
    is_closed: bool,
    /// All tokens as it leaves them, if it has changed some.
    tokens: Option<Vec<Token>>,
    /// The present time in it.
    now: Timestamp,
    /// How many tallies it has added to the history.
    tallies: usize,
}

/// Operations after which a batch commits: more would make the first ones wait too long.
const BATCH_OPERATIONS_MAX: usize = 1_000;

/// Bytes of answers after which a batch commits: they all wait in memory for it.
const BATCH_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long the loop may sleep when nothing is due.
const TICK_MAX: Duration = Duration::from_secs(60);

/// How long the daemon waits between two steps of its own work (removing units of deleted specs,
/// archiving, adding the units of long outputs): clients get their turns in between.
const CLEANUP_PAUSE: Duration = Duration::from_millis(1);

/// How often the uses of tokens are written.
const USES_PAUSE: Duration = Duration::from_secs(60);

/// How often the history is written. What happened since is missing in it after a kill.
const HISTORY_PAUSE: Duration = Duration::from_secs(5);

/// Tallies that are added to the history in one step: a millisecond or two.
const TALLIES_AT_ONCE: usize = 50;

/// How often old entries of the audit are looked for.
const PRUNE_PAUSE: Duration = Duration::from_secs(3_600);

impl<S: Storage> Engine<S> {
    /// An engine that keeps its state in `store`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn new(
        mut store: S,
        settings: Settings,
        random: Box<dyn Rng>,
        now: Timestamp,
    ) -> Result<Self> {
        let name = settings.namespace.clone();
        let (namespace, tokens) = store.operation(Access::Write, |store| {
            Ok((store.namespace(&name)?, store.tokens()?))
        })?;
        store.commit()?;
        let begun = store.operation(Access::Write, |store| Ok(store.begin_history(now)?));
        match begun.map_err(into_storage).and(store.commit()) {
            // On a full disk what is missing can't be noted. Those who read are served all the same.
            Ok(()) | Err(StorageError::Full(_)) => {}
            Err(error) => return Err(error.into()),
        }
        store.stop_waiting()?;
        Ok(Self {
            store,
            namespace,
            random,
            settings,
            memory: Memory::new(now),
            effects: Effects::default(),
            waiters: Waiters::default(),
            batch: Batch::default(),
            happened: Vec::new(),
            activities: Activities::default(),
            archiver: Archiver::default(),
            next_cleanup: now,
            tokens: Arc::new(KnownTokens::new(tokens)),
            next_uses: now,
            next_prune: now.plus(TICK_MAX),
            is_pruning: false,
            next_history: now.plus(HISTORY_PAUSE),
            totals: Totals::default(),
        })
    }

    /// The store, when the engine has ended.
    pub fn into_store(self) -> S {
        self.store
    }

    /// How it works.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The namespace of all operations.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    /// The tokens, for other threads as well.
    #[must_use]
    pub fn tokens(&self) -> Arc<KnownTokens> {
        Arc::clone(&self.tokens)
    }

    /// A way to read committed state on another thread, if the store has one.
    #[must_use]
    pub fn reader(&self) -> Option<S::Reader> {
        self.store.reader()
    }

    /// Makes sure that the open batch can write. Does not wait.
    ///
    /// # Errors
    /// As [`Storage::begin_to_write`].
    pub fn begin_to_write(&mut self) -> std::result::Result<(), StorageError> {
        self.store.begin_to_write()
    }

    /// Runs one operation in the open batch, or in a new one. Expires what is due before it, except while another
    /// program keeps the store from writing. If the operation fails, all that it wrote is undone,
    /// and the rest of the batch stands. `run` may be called again: see [`Storage::operation`].
    ///
    /// # Errors
    /// What `run` fails with, or `Storage`.
    pub fn run<T>(
        &mut self,
        access: Access,
        now: Timestamp,
        run: impl FnMut(Operation<'_, S>) -> Result<T>,
    ) -> Result<T> {
        self.run_at(self.namespace, access, now, run)
    }

    /// The same in the namespace of this name, which is created if it is new.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_in<T>(
        &mut self,
        namespace: &str,
        access: Access,
        now: Timestamp,
        run: impl FnMut(Operation<'_, S>) -> Result<T>,
    ) -> Result<T> {
        let id = match self.find_namespace(namespace)? {
            Some(id) => id,
            None => self.operation(self.namespace, Access::Write, now, |operation| {
                Ok(operation.store.namespace(namespace)?)
            })?,
        };
        self.run_at(id, access, now, run)
    }

    /// The namespace of this name, if it is there.
    ///
    /// # Errors
    /// `Storage`.
    pub fn find_namespace(&mut self, name: &str) -> Result<Option<NamespaceId>> {
        if name == self.settings.namespace {
            return Ok(Some(self.namespace));
        }
        self.open_batch();
        let find = |store: &mut S| Ok(store.find_namespace(name)?);
        self.store.operation(Access::Read, find)
    }

    fn run_at<T>(
        &mut self,
        namespace: NamespaceId,
        access: Access,
        now: Timestamp,
        run: impl FnMut(Operation<'_, S>) -> Result<T>,
    ) -> Result<T> {
        self.open_batch();
        self.batch.operations += 1;
        match self.expire(now) {
            Ok(()) | Err(Error::Storage(StorageError::Busy(_))) => {}
            Err(error) => return Err(error),
        }
        self.operation(namespace, access, now, run)
    }

    fn operation<T>(
        &mut self,
        namespace: NamespaceId,
        access: Access,
        now: Timestamp,
        mut run: impl FnMut(Operation<'_, S>) -> Result<T>,
    ) -> Result<T> {
        self.batch.may_write |= access.writes();
        self.batch.now = now;
        if self.waiters.want_work() {
            self.memory.asked_for_work = Some(now);
        }
        let (home, random) = (self.namespace, &mut *self.random);
        let (limits, memory) = (&self.settings.limits, &self.memory);
        let effects = &mut self.effects;
        let result = self.store.operation(access, |store| {
            effects.clear();
            run(Operation {
                store,
                namespace,
                home,
                now,
                limits,
                chained: Chained::default(),
                memory,
                effects: &mut *effects,
                random,
            })
        })?;
        if let Some(tokens) = self.effects.tokens.take() {
            self.batch.tokens = Some(tokens);
        }
        self.archiver.note_completed(self.effects.completed);
        self.happened.append(&mut self.effects.happened);
        self.batch.answer_bytes += self.effects.answer_bytes;
        if namespace != home {
            // Who asks there asks for nothing of what CBOR-RPC clients see.
            self.effects.asked_for_work = None;
        }
        self.memory.apply(&mut self.effects);
        Ok(result)
    }

    /// Expires due leases, delays, workers and locks. If they are too many for one step, it does one step in each
    /// batch.
    fn expire(&mut self, now: Timestamp) -> Result<()> {
        if self.batch.had_sweep || self.store.due().is_none_or(|due| due > now) {
            return Ok(());
        }
        self.begin_to_write()?;
        self.batch.had_sweep =
            self.operation(self.namespace, Access::Write, now, |mut operation| {
                operation.expire()
            })?;
        Ok(())
    }

    /// Begins a batch, unless one is open. [`Engine::run`] does so too: this is for messages of which nothing is run,
    /// which take time as well.
    pub fn open_batch(&mut self) {
        self.batch.began.get_or_insert_with(Instant::now);
    }

    /// Bytes of the answers that wait for the open batch.
    #[must_use]
    pub fn answer_bytes(&self) -> usize {
        self.batch.answer_bytes
    }

    /// Notes that an answer waits for the open batch.
    pub fn note_answer(&mut self, bytes: usize) {
        self.batch.answer_bytes += bytes;
    }

    /// True if the answers of the open batch depend on its commit.
    #[must_use]
    pub fn batch_may_write(&self) -> bool {
        self.batch.may_write
    }

    /// Closes the open batch to further operations: what was done in it may be as much work as many calls.
    pub fn close_batch(&mut self) {
        self.batch.is_closed = true;
    }

    /// True if the open batch should be committed before another operation joins it.
    #[must_use]
    pub fn batch_is_full(&self) -> bool {
        let batch = &self.batch;
        batch.is_closed
            || batch.operations >= BATCH_OPERATIONS_MAX
            || batch.answer_bytes >= BATCH_ANSWER_BYTES_MAX
            || batch
                .began
                .is_some_and(|began| began.elapsed() >= self.settings.pace.batch)
            || self.store.batch_is_broken()
    }

    /// Commits the open batch. What it wrote is on disk when this returns `Ok`. Cheap if it wrote nothing.
    ///
    /// # Errors
    /// `Unknown` if it can't be known what is on the disk now; otherwise nothing of the batch stands.
    pub fn commit(&mut self) -> std::result::Result<(), StorageError> {
        let batch = std::mem::take(&mut self.batch);
        self.totals.count(batch.operations, batch.may_write);
        let began = batch.may_write.then(Instant::now);
        let committed = self.store.commit();
        if let Some(began) = began {
            self.totals.count_commit(began.elapsed(), &committed);
        }
        if committed.is_ok() {
            self.activities.forget_written(batch.tallies);
        }
        self.count_happened(batch.now, committed.is_ok());
        if let (Ok(()), Some(tokens)) = (&committed, batch.tokens) {
            self.tokens.replace(tokens);
        }
        if committed.is_err() && !self.waiters.is_empty() {
            // What was undone may be what they wait for: reading loads the file's state again, which is news. If that
            // fails as well, they learn it with the next batch.
            let _ = self.store.operation(Access::Read, |_| Ok(()));
            let _ = self.store.commit();
        }
        committed
    }

    /// Counts what the operations of a batch have done, if it was committed.
    fn count_happened(&mut self, now: Timestamp, is_committed: bool) {
        if self.happened.is_empty() {
            return;
        }
        let happened = self.happened.drain(..);
        if is_committed {
            let store = &self.store;
            let is_there = |id| store.get_work_spec(id).is_some();
            self.activities.count(now, happened, is_there);
        }
    }

    /// Lets a request wait for something until `end`. It is run when [`Engine::next_to_run`] returns it. If it has to
    /// wait then, [`Engine::wait_again`] is to be called, and otherwise [`Engine::end_wait`].
    pub fn wait(&mut self, waits_for: WaitsFor, end: Timestamp) -> WaiterId {
        self.store.watch(true);
        self.waiters.begin(waits_for, end)
    }

    /// Lets a request wait again, which keeps its place.
    pub fn wait_again(&mut self, id: WaiterId, waits_for: WaitsFor) {
        self.waiters.sleep_again(id, waits_for);
    }

    /// Lets a request wait no longer. It is to be run now.
    pub fn hurry(&mut self, id: WaiterId) {
        self.waiters.end(id);
    }

    /// True if a request must not wait any longer.
    #[must_use]
    pub fn wait_is_over(&self, id: WaiterId) -> bool {
        self.waiters.is_over(id)
    }

    /// Forgets a request that was answered, or that nobody waits for any more.
    pub fn end_wait(&mut self, id: WaiterId) {
        self.waiters.remove(id);
        if self.waiters.is_empty() {
            self.store.watch(false);
        }
    }

    /// The next waiting request that is to be run. Cheap if nothing has changed, and free if none waits.
    pub fn next_to_run(&mut self, now: Timestamp) -> Option<WaiterId> {
        if self.waiters.is_empty() {
            return None;
        }
        let news = self.store.take_news(self.namespace, now);
        self.waiters.note(news);
        let store = &self.store;
        self.waiters.next(now, |id| store.get_work_spec(id))
    }

    /// When [`Engine::next_to_run`] has another one, if nothing else happens.
    #[must_use]
    pub fn next_run_at(&self) -> Option<Timestamp> {
        self.waiters.next_at()
    }

    /// Does what is due, in a batch of its own that is committed when this returns. Returns how long the caller may
    /// wait until the next call, unless [`Engine::due`] says otherwise by then.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    pub fn tick(&mut self, now: Timestamp) -> std::result::Result<Duration, StorageError> {
        let expired = self.expire(now);
        let cleaned = self.clean_up(now);
        let archived = self.archive(now);
        let noted = self.note_uses_of_tokens(now);
        let pruned = self.prune_audit(now);
        let told = self.write_history(now);
        self.commit()?;
        match expired
            .and(cleaned)
            .and(noted)
            .and(pruned)
            .and(told)
            .and(archived)
            .map_err(into_storage)?
        {
            None => Ok(TICK_MAX),
            Some(next) => Ok(next.since(now).clamp(CLEANUP_PAUSE, TICK_MAX)),
        }
    }

    /// Moves all times that are kept to be compared with the present by `step`, in a batch of its own that is committed
    /// when this returns. The caller then sets the clock by the same step, to `now`.
    ///
    /// # Errors
    /// As [`Engine::commit`]. No time has been moved then.
    pub fn move_times(
        &mut self,
        step: ClockStep,
        now: Timestamp,
    ) -> std::result::Result<(), StorageError> {
        let moved = self
            .store
            .operation(Access::Write, |store| Ok(store.move_times(step, now)?));
        self.commit()?;
        moved.map_err(into_storage)?;
        self.memory.move_times(step);
        self.waiters.move_times(step);
        for time in [
            &mut self.next_cleanup,
            &mut self.archiver.next,
            &mut self.next_uses,
            &mut self.next_prune,
            &mut self.next_history,
        ] {
            *time = time.moved(step);
        }
        Ok(())
    }

    /// When [`Engine::tick`] may next have something to do; `None` if that is not known.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let cleanup = self.has_cleanup().then_some(self.next_cleanup);
        let uses = self.tokens.has_uses().then_some(self.next_uses);
        let prune = self.is_pruning.then_some(self.next_prune);
        let has_history = self.activities.has_unwritten();
        let history = has_history.then_some(self.next_history);
        [self.store.due(), cleanup, uses, prune, history]
            .into_iter()
            .flatten()
            .min()
    }

    /// True if there may be something to clean up.
    fn has_cleanup(&self) -> bool {
        self.store.has_deleted()
            || self.store.has_output_slices()
            || self.store.next_to_requeue().is_some()
    }

    /// Takes a step of cleaning up: adds a slice of a long output, removes some of what was deleted, and queues some units
    /// in the way in which their work spec does now.
    fn clean_up(&mut self, now: Timestamp) -> Result<()> {
        if !self.has_cleanup() {
            return Ok(());
        }
        self.next_cleanup = now.plus(CLEANUP_PAUSE);
        self.operation(self.namespace, Access::Write, now, |mut operation| {
            operation.chain_slice()?;
            operation.store.purge(limits::SWEEP_REMOVED)?;
            if let Some(spec) = operation.store.next_to_requeue() {
                operation.store.requeue(spec, limits::SWEEP_REQUEUED)?;
            }
            Ok(())
        })
    }

    /// Removes a few entries of the audit that are too old or too many.
    fn prune_audit(&mut self, now: Timestamp) -> Result<()> {
        if now < self.next_prune {
            return Ok(());
        }
        let kept = self.settings.audit_kept;
        let before = kept.map_or(Timestamp(i64::MIN), |kept| now.minus(kept));
        self.next_prune = now.plus(PRUNE_PAUSE);
        let limit = limits::SWEEP_REMOVED;
        let removed = self.operation(self.namespace, Access::Write, now, |operation| {
            Ok(operation.store.prune_audit(before, limit)?)
        })?;
        self.is_pruning = removed == limit;
        if self.is_pruning {
            self.next_prune = now.plus(CLEANUP_PAUSE);
        }
        Ok(())
    }

    /// Adds to the history what has happened, every few seconds and in steps.
    fn write_history(&mut self, now: Timestamp) -> Result<()> {
        if now < self.next_history || !self.activities.has_unwritten() {
            return Ok(());
        }
        // Also if it fails: another program may have the file locked.
        self.next_history = now.plus(HISTORY_PAUSE);
        self.activities.end_tallies();
        let tallies = self.activities.unwritten(TALLIES_AT_ONCE).to_vec();
        self.operation(self.namespace, Access::Write, now, |operation| {
            for (spec, minute, tally) in &tallies {
                // It may have been deleted meanwhile.
                if operation.store.get_work_spec(*spec).is_some() {
                    operation.store.add_to_history(*spec, *minute, tally)?;
                }
            }
            Ok(operation.store.end_history(now)?)
        })?;
        self.batch.tallies = tallies.len();
        if tallies.len() == TALLIES_AT_ONCE {
            self.next_history = now.plus(CLEANUP_PAUSE);
        }
        Ok(())
    }

    /// Writes all of the history, before the end.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    pub fn finish(&mut self, now: Timestamp) -> std::result::Result<(), StorageError> {
        loop {
            self.next_history = now;
            let is_last = !self.activities.has_unwritten();
            let written = if is_last {
                // Something that the history does not tell may have changed the queue, such as a deletion.
                self.operation(self.namespace, Access::Write, now, |operation| {
                    Ok(operation.store.end_history(now)?)
                })
            } else {
                self.write_history(now)
            };
            self.commit()?;
            written.map_err(into_storage)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Writes when tokens were last used, once a minute.
    fn note_uses_of_tokens(&mut self, now: Timestamp) -> Result<()> {
        if now < self.next_uses || !self.tokens.has_uses() {
            return Ok(());
        }
        self.next_uses = now.plus(USES_PAUSE);
        let uses = self.tokens.take_uses();
        self.operation(self.namespace, Access::Write, now, |operation| {
            for (token, at) in &uses {
                operation.store.note_use_of_token(*token, *at)?;
            }
            Ok(())
        })
    }
}

fn into_storage(error: Error) -> StorageError {
    match error {
        Error::Storage(error) => error,
        error => StorageError::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, SqliteStore};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::path::Path;

    #[test]
    fn a_batch_is_full_when_its_answers_have_16_mib() {
        let now = Timestamp(0);
        let store = SqliteStore::open(Path::new(":memory:"), &Options::default(), now);
        let random = Box::new(SmallRng::seed_from_u64(1));
        let engine = Engine::new(store.expect("it opens"), Settings::default(), random, now);
        let mut engine = engine.expect("it starts");
        engine.note_answer((16 << 20) - 1);
        assert!(!engine.batch_is_full());
        engine.note_answer(1);
        assert!(engine.batch_is_full());
        engine.commit().expect("it commits");
        assert!(!engine.batch_is_full());
    }
}
