//! The stage at work: one thread reads, all cores encode, one thread packs, one writes; queues between them are short.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SendError, SyncSender, sync_channel};
use std::thread;

use entromask_artifact::{OutputSpec, Workbench};
use entromask_cli::{Progress, check_interrupt};
use entromask_fault::Fault;

use crate::filter::Filter;
use crate::parts::{DiskGuard, Part, Split};
use crate::report::{Counts, SplitCounts, counted};
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

/// Documents with their splits.
#[derive(Default)]
struct Batch {
    documents: Vec<(Document, usize)>,
    /// Bytes of the corpus's files that were read when the batch was complete.
    read: u64,
}

/// Documents with their splits and tokens.
type Encoded = (Batch, Vec<Pieces>);

/// What was made, and what of it had been there.
pub(crate) struct Made {
    pub(crate) counts: Counts,
    pub(crate) parts: Vec<OutputSpec>,
    /// Tokens in parts that an earlier run had finished.
    pub(crate) resumed_tokens: u64,
}

/// What goes through a queue; `None` is the end of the corpus. A queue that ends without it broke off, and the last
/// part must not be written.
type Next<T> = Option<T>;

impl Pipeline<'_> {
    /// Writes all parts and tells what they hold.
    pub(crate) fn run(&self) -> anyhow::Result<Made> {
        let source = &Source::default();
        let (batches, to_encode) = sync_channel(1);
        let (encoded, to_pack) = sync_channel(1);
        let (parts, to_write) = sync_channel(0);
        let lanes = [Lane::new(self, "part", parts.clone())?, Lane::new(self, "valid", parts)?];
        let (packed, resumed_tokens) = self.tell_resumed(&lanes);
        let (read, encode, packed, write) = thread::scope(|scope| {
            // Each thread owns its ends of the queues and hangs up when it is done.
            let read = scope.spawn(move || self.read(source, packed, &batches));
            let encode = scope.spawn(move || self.encode(to_encode, &encoded));
            let write = scope.spawn(move || self.write(to_write));
            let packed = self.pack(to_pack, lanes, resumed_tokens);
            (join(read), join(encode), packed, join(write))
        });
        // A thread that fails hangs up. Its neighbours then stop without an error of their own, except for the packer,
        // which only knows that the corpus broke off or that the writer is gone: its error goes last.
        let filter = read?;
        encode?;
        write?;
        let [train, valid] = packed?;
        let counts = self.counts([&train, &valid], &filter, source);
        Ok(Made { counts, parts: [train.parts, valid.parts].concat(), resumed_tokens })
    }

    /// The documents of each split and all tokens that an earlier run has packed.
    fn tell_resumed(&self, lanes: &[Lane; 2]) -> ([u64; 2], u64) {
        let tokens = lanes.iter().map(|lane| lane.split.counts.tokens).sum();
        if tokens > 0 {
            let parts: usize = lanes.iter().map(|lane| lane.split.outputs.len()).sum();
            let (out, parts) = (self.bench.out().display(), counted(parts as u64, "finished part"));
            tracing::info!("{out}: goes on behind {parts} with {tokens} tokens, whose text is only read");
        }
        (lanes.each_ref().map(|lane| lane.packer.place().documents), tokens)
    }

    /// Reads documents, decides over them, and sends those that are kept, some megabytes at a time; of each split the first
    /// ones are `packed`.
    fn read(
        &self,
        source: &Source,
        mut packed: [u64; 2],
        batches: &SyncSender<Next<Batch>>,
    ) -> anyhow::Result<Filter> {
        let mut filter = Filter::new(self.config);
        let (mut batch, mut bytes) = (Batch::default(), 0);
        let outcome = self.corpus.read(source, &mut |document| {
            check_interrupt()?;
            let fate = filter.decide(&document);
            match fate.split() {
                Some(split) if packed[split] > 0 => packed[split] -= 1,
                Some(split) => {
                    bytes += document.text.len() + DOCUMENT_BYTES;
                    batch.documents.push((document, split));
                }
                None => {}
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

    fn pack(
        &self,
        encoded: Receiver<Next<Encoded>>,
        mut lanes: [Lane; 2],
        resumed_tokens: u64,
    ) -> anyhow::Result<[Packed; 2]> {
        let (progress, bytes) = (Progress::estimated("tokenize"), self.corpus.bytes()?);
        progress.resume_at(resumed_tokens);
        let mut ended = false;
        for next in encoded {
            // The part that is being filled is dropped, the one that is being written is finished.
            check_interrupt()?;
            let Some((batch, pieces)) = next else {
                ended = true;
                break;
            };
            for ((document, split), pieces) in batch.documents.iter().zip(&pieces) {
                lanes[*split].add(document, pieces)?;
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
        let (kept, held_out) = (train.counts, valid.counts);
        skipped.empty = kept.empty + held_out.empty;
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
}

impl<'a> Lane<'a> {
    /// A lane that begins behind the parts that an earlier run has finished.
    fn new(pipeline: &Pipeline<'a>, prefix: &'static str, parts: SyncSender<Part>) -> anyhow::Result<Self> {
        let mut split = Split::new(pipeline.bench, prefix, pipeline.config.shard_rows(), parts);
        split.unknown = pipeline.encoder.special().unk;
        let place = split.resume()?.place;
        let packer = Packer::new(pipeline.encoder, Packing::from(pipeline.config)).at(place);
        Ok(Self { packer, split })
    }

    fn add(&mut self, document: &Document, pieces: &Pieces) -> anyhow::Result<()> {
        self.packer.add(document, pieces, &mut |row, place| self.split.push(row, place))?;
        // Not before its rows: what is noted of a part counts the documents before the place that is noted.
        if document.piece != Piece::Later {
            let counts = &mut self.split.counts;
            *(if pieces.is_empty() { &mut counts.empty } else { &mut counts.docs }) += 1;
        }
        Ok(())
    }

    /// Ships the last part and hangs up.
    fn finish(mut self) -> anyhow::Result<Packed> {
        self.packer.finish(&mut |row, place| self.split.push(row, place))?;
        self.split.finish()?;
        let (counts, parts) = (self.split.counts, self.split.outputs);
        Ok(Packed { counts, parts, dropped: self.packer.place().dropped })
    }
}

/// What has become of a split.
struct Packed {
    counts: SplitCounts,
    /// Its parts, in order.
    parts: Vec<OutputSpec>,
    /// Rows and tokens that were dropped for being too short.
    dropped: [u64; 2],
}

/// The outcome of a thread; a panic becomes an error, so that the other threads' errors are seen too.
fn join<T>(thread: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Fault::failed("a thread panicked").remedy("report this as a bug").into()))
}

#[cfg(test)]
mod tests;
