//! The stage at work: one thread reads, all cores encode, one thread packs, one writes; queues between them are short.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::thread;

use entromask_artifact::{OutputSpec, Workbench};
use entromask_cli::{Progress, check_interrupt};
use entromask_fault::Fault;

use crate::filter::{Fate, Filter};
use crate::parts::{DiskGuard, Part, Split};
use crate::report::{Counts, SplitCounts};
use crate::{Config, Corpus, Document, Packer, Packing, Piece, Pieces, Source, TextEncoder};

/// What the threads share.
pub(crate) struct Pipeline<'a> {
    pub(crate) config: &'a Config,
    pub(crate) corpus: &'a Corpus,
    pub(crate) encoder: &'a TextEncoder,
    pub(crate) bench: &'a Workbench,
    pub(crate) guard: DiskGuard,
}

/// What a document takes in memory besides its text, so that a batch of very short ones stays small too.
const DOCUMENT_BYTES: usize = 256;

/// Documents with their fates.
#[derive(Default)]
struct Batch {
    documents: Vec<(Document, Fate)>,
    /// Bytes of the corpus's files that were read when the batch was complete.
    read: u64,
}

/// Documents with their fates and tokens.
type Encoded = (Batch, Vec<Pieces>);

/// What goes through a queue; `None` is the end of the corpus. A queue that ends without it broke off, and the last
/// part must not be written.
type Next<T> = Option<T>;

impl Pipeline<'_> {
    /// Writes all parts and tells what they hold.
    pub(crate) fn run(&self) -> anyhow::Result<(Counts, Vec<OutputSpec>)> {
        let source = &Source::default();
        let (batches, to_encode) = sync_channel(1);
        let (encoded, to_pack) = sync_channel(1);
        let (parts, to_write) = sync_channel(0);
        let (read, encode, packed, write) = thread::scope(|scope| {
            // Each thread owns its ends of the queues and hangs up when it is done.
            let read = scope.spawn(move || self.read(source, &batches));
            let encode = scope.spawn(move || self.encode(to_encode, &encoded));
            let write = scope.spawn(move || self.write(to_write));
            let packed = self.pack(to_pack, parts);
            (join(read), join(encode), packed, join(write))
        });
        // A thread that fails hangs up. Its neighbours then stop without an error of their own, except for the packer,
        // which only knows that the corpus broke off or that the writer is gone: its error goes last.
        let filter = read?;
        encode?;
        write?;
        let [train, valid] = packed?;
        let counts = self.counts([&train, &valid], &filter, source);
        Ok((counts, [train.parts, valid.parts].concat()))
    }

    /// Reads documents, decides over them, and sends those that are kept, some megabytes at a time.
    fn read(&self, source: &Source, batches: &SyncSender<Next<Batch>>) -> anyhow::Result<Filter> {
        let mut filter = Filter::new(self.config);
        let (mut batch, mut bytes) = (Batch::default(), 0);
        let outcome = self.corpus.read(source, &mut |document| {
            check_interrupt()?;
            let fate = filter.decide(&document);
            if fate != Fate::Skipped {
                bytes += document.text.len() + DOCUMENT_BYTES;
                batch.documents.push((document, fate));
            }
            batch.read = source.bytes.load(Ordering::Relaxed);
            if bytes >= self.config.run.batch_bytes {
                bytes = 0;
                batches.send(Some(std::mem::take(&mut batch)))?;
            }
            Ok(())
        });
        match outcome
            .and_then(|()| Ok([Some(batch), None].into_iter().try_for_each(|last| batches.send(last))?))
        {
            Err(error) if !error.is::<SendError<Next<Batch>>>() => Err(error),
            _ => Ok(filter),
        }
    }

    fn encode(
        &self,
        batches: Receiver<Next<Batch>>,
        encoded: &SyncSender<Next<Encoded>>,
    ) -> anyhow::Result<()> {
        for next in batches {
            let next = next.map(|batch| self.encode_batch(batch)).transpose()?;
            if encoded.send(next).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn encode_batch(&self, batch: Batch) -> anyhow::Result<Encoded> {
        let texts: Vec<&str> = batch.documents.iter().map(|(document, _)| document.text.as_str()).collect();
        let pieces = self.encoder.encode_all(&texts)?;
        Ok((batch, pieces))
    }

    fn pack(&self, encoded: Receiver<Next<Encoded>>, parts: SyncSender<Part>) -> anyhow::Result<[Packed; 2]> {
        let mut lanes = [Lane::new(self, "part", parts.clone()), Lane::new(self, "valid", parts)];
        let (progress, bytes) = (Progress::estimated("tokenize"), self.corpus.bytes()?);
        let mut ended = false;
        for next in encoded {
            // The part that is being filled is dropped, the one that is being written is finished.
            check_interrupt()?;
            let Some((batch, pieces)) = next else {
                ended = true;
                break;
            };
            for ((document, fate), pieces) in batch.documents.iter().zip(&pieces) {
                lanes[usize::from(*fate == Fate::Valid)].add(document, pieces)?;
            }
            progress.inc(pieces.iter().map(|pieces| pieces.len() as u64).sum());
            progress.estimate(batch.read, bytes);
        }
        progress.finish();
        if !ended {
            return Err(Fault::failed("the corpus broke off").into());
        }
        let [train, valid] = lanes.map(Lane::finish);
        Ok([train?, valid?])
    }

    fn write(&self, parts: Receiver<Part>) -> anyhow::Result<()> {
        parts.into_iter().try_for_each(|part| part.write(self.bench, self.guard))
    }

    fn counts(&self, [train, valid]: [&Packed; 2], filter: &Filter, source: &Source) -> Counts {
        let mut skipped = filter.skipped;
        skipped.empty = train.empty + valid.empty;
        let (kept, held_out) = (train.counts, valid.counts);
        Counts {
            rows: kept.rows,
            tokens: kept.tokens,
            maskable: kept.maskable,
            unknown: kept.unknown,
            docs: kept.docs,
            valid_rows: held_out.rows,
            valid_tokens: held_out.tokens,
            valid_maskable: held_out.maskable,
            valid_unknown: held_out.unknown,
            valid_docs: held_out.docs,
            vocab_size: self.encoder.vocab_size(),
            special: self.encoder.special().clone(),
            lost_letters_percent: lost_percent(
                kept.letters + held_out.letters,
                kept.lost_letters + held_out.lost_letters,
            ),
            replaced_invalid_utf8: source.replaced.load(Ordering::Relaxed),
            documents_read: filter.documents,
            long_documents: filter.long,
            skipped,
            dropped_rows: train.dropped[0] + valid.dropped[0],
            dropped_tokens: train.dropped[1] + valid.dropped[1],
        }
    }
}

fn lost_percent(letters: u64, lost: u64) -> Option<f64> {
    (letters > 0).then(|| 100.0 * lost as f64 / letters as f64)
}

/// A split's way from tokens to parts.
struct Lane<'a> {
    packer: Packer<'a>,
    split: Split<'a>,
    /// Documents without a token.
    empty: u64,
}

impl<'a> Lane<'a> {
    fn new(pipeline: &Pipeline<'a>, prefix: &'static str, parts: SyncSender<Part>) -> Self {
        let packer = Packer::new(pipeline.encoder, Packing::from(pipeline.config));
        let mut split = Split::new(pipeline.bench, prefix, pipeline.config.shard_rows(), parts);
        split.unknown = pipeline.encoder.special().unk;
        Self { packer, split, empty: 0 }
    }

    fn add(&mut self, document: &Document, pieces: &Pieces) -> anyhow::Result<()> {
        if document.piece != Piece::Later {
            let counter = if pieces.is_empty() { &mut self.empty } else { &mut self.split.counts.docs };
            *counter += 1;
        }
        self.packer.add(document, pieces, &mut |row| self.split.push(row))
    }

    /// Ships the last part and hangs up.
    fn finish(mut self) -> anyhow::Result<Packed> {
        self.packer.finish(&mut |row| self.split.push(row))?;
        self.split.finish()?;
        let (counts, parts) = (self.split.counts, self.split.outputs);
        Ok(Packed { counts, parts, dropped: self.packer.dropped, empty: self.empty })
    }
}

/// What has become of a split.
struct Packed {
    counts: SplitCounts,
    /// Its parts, in order.
    parts: Vec<OutputSpec>,
    /// Rows and tokens that were dropped for being too short.
    dropped: [u64; 2],
    /// Documents without a token.
    empty: u64,
}

/// The outcome of a thread; a panic becomes an error, so that the other threads' errors are seen too.
fn join<T>(thread: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Fault::failed("a thread panicked").remedy("report this as a bug").into()))
}
