//! Data parallelism: each device has the student and the teacher, and computes a shard of each batch.
//!
//! What a shard's losses and gradients are is what it adds to the means over the whole batch
//! ([`Pass::whole`](crate::step::Pass)), so that the sum over the shards is what one device computes, up to rounding. The
//! sum is made on the first device, in the order of the shards; the optimizer steps there, and the other devices get the
//! student anew. burn's own all-reduce exists for CUDA alone and could not be tried; this serves every backend, and one
//! device is the case of one shard.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use entromask_cli::check_interrupt;
use entromask_encoder::{Dropout, EncoderConfig, Filling, Lanes, MaskedLm};
use entromask_training::Gradients;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::begin::Teacher;
use crate::config::ObjectiveConfig;
use crate::data::Example;
use crate::online;
use crate::step::{self, Counts, HostBody, Losses, Pass};

/// The student, on all devices.
pub(crate) struct Shards {
    /// The optimizer steps on the first one.
    replicas: Vec<Replica>,
    /// A thread for each replica, and always the same one: backends keep streams and memory by thread. `None` for one
    /// replica.
    threads: Option<ThreadPool>,
}

/// A device, and the models on it.
pub(crate) struct Replica {
    /// With automatic differentiation.
    device: Device,
    /// Taken only while the optimizer updates it.
    model: Option<MaskedLm>,
    config: EncoderConfig,
    teacher: Teacher,
    /// Whether the student's body is computed without tensors, as on the CPU.
    on_host: bool,
    /// Memory of a step on the CPU.
    lanes: Lanes,
}

/// What is asked of each row of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub objective: &'a ObjectiveConfig,
    /// Rows that a device computes at once.
    pub rows: Option<usize>,
    /// Whether entropies are wanted.
    pub entropies: bool,
    /// What decides what is dropped.
    pub seed: u64,
    /// Whether who asks to stop need not wait for all of it.
    pub stops: bool,
}

/// What a batch, or a shard of one, teaches.
pub(crate) struct StepOutput {
    pub losses: Losses,
    pub gradients: Gradients,
    /// At the masked positions, nats, where they are wanted.
    pub entropies: Vec<f32>,
}

impl Shards {
    /// The student `model` and a teacher on each of `devices`, on the first of which the student is.
    ///
    /// # Errors
    /// Those of `teacher`, which loads one.
    pub(crate) fn new(
        model: &MaskedLm,
        config: &EncoderConfig,
        devices: &[Device],
        teacher: impl Fn(&Device) -> Result<Teacher>,
    ) -> Result<Self> {
        let replica = |device: &Device| {
            let teacher = teacher(device)?;
            let device = device.clone().autodiff();
            let model = model.clone().fork(&device);
            let on_host = HostBody::serves(&model);
            Ok(Replica {
                device,
                model: Some(model),
                config: config.clone(),
                teacher,
                on_host,
                lanes: Lanes::default(),
            })
        };
        let replicas: Vec<_> = devices.iter().map(replica).collect::<Result<_>>()?;
        let threads =
            (devices.len() > 1).then(|| ThreadPoolBuilder::new().num_threads(devices.len()).build());
        Ok(Self { replicas, threads: threads.transpose()? })
    }

    /// The student on the first device.
    pub(crate) fn model(&self) -> &MaskedLm {
        self.replicas[0].model()
    }

    /// The first device, with automatic differentiation.
    pub(crate) fn device(&self) -> &Device {
        &self.replicas[0].device
    }

    pub(crate) fn teacher(&self) -> &Teacher {
        &self.replicas[0].teacher
    }

    /// Losses and gradients of a batch with masks; the gradients are on the first device.
    ///
    /// # Errors
    /// As [`Losses::check`].
    pub(crate) fn learn(&mut self, batch: &[Example], task: Task) -> Result<StepOutput> {
        let whole = Counts::of(batch, self.teacher().for_step(), task.objective);
        let device = self.device().clone().inner();
        let mut sum = None;
        for lesson in self.side_by_side(batch, task, whole) {
            if let Some(lesson) = lesson? {
                let gradients = lesson.gradients.to_device(&device);
                add(&mut sum, StepOutput { gradients, ..lesson });
            }
        }
        Ok(sum.expect("a batch with masks has a shard with masks"))
    }

    /// Makes the student what `change` makes of it, on all devices. Returns what `change` says besides.
    ///
    /// # Errors
    /// Those of `change`, after which there is no student.
    pub(crate) fn update<T>(&mut self, change: impl FnOnce(MaskedLm) -> Result<(MaskedLm, T)>) -> Result<T> {
        let (first, others) = self.replicas.split_first_mut().expect("at least one");
        // A copy on the same device shares the memory, which the optimizer could not take over then.
        for replica in others.iter_mut() {
            replica.model = None;
        }
        let (model, said) = change(first.model.take().expect("put back below"))?;
        for replica in others {
            replica.model = Some(model.clone().fork(&replica.device));
        }
        first.model = Some(model);
        Ok(said)
    }

    /// The student on the first device.
    pub(crate) fn into_model(mut self) -> MaskedLm {
        self.replicas.swap_remove(0).model.expect("put back after each step")
    }

    /// What each replica makes of its shard, in the order of the shards.
    fn side_by_side(
        &mut self,
        batch: &[Example],
        task: Task,
        whole: Counts,
    ) -> Vec<Result<Option<StepOutput>>> {
        let Some(threads) = &self.threads else {
            return vec![self.replicas[0].learn((batch, 0), task, whole)];
        };
        let n = self.replicas.len();
        let replicas: Vec<Mutex<&mut Replica>> = self.replicas.iter_mut().map(Mutex::new).collect();
        threads.broadcast(|thread| {
            let index = thread.index();
            let mut replica = replicas[index].lock().unwrap_or_else(PoisonError::into_inner);
            let rows = shard(batch.len(), index, n);
            replica.learn((&batch[rows.clone()], rows.start), task, whole)
        })
    }
}

impl Replica {
    /// What a shard, given with the number of its first row, adds to the lesson of the `whole` batch; `None` if there is
    /// nothing to learn from it.
    fn learn(
        &mut self,
        (shard, mut first_row): (&[Example], usize),
        task: Task,
        whole: Counts,
    ) -> Result<Option<StepOutput>> {
        let body = self.host_body();
        let filling = Filling::of(&self.config, entromask_device::is_cpu(&self.device));
        let mut sum = None;
        for part in shard.chunks(task.rows.unwrap_or(shard.len()).max(1)) {
            // A batch of many parts may take minutes, and who asks to stop may not wait that long.
            if task.stops {
                check_interrupt()?;
            }
            let dropout = Dropout { seed: task.seed, first_row };
            first_row += part.len();
            let (objective, device, body) = (task.objective, &self.device, body.as_ref());
            let pass = Pass { objective, whole, filling, device, body, dropout };
            if Counts::of(part, self.teacher.for_step(), objective).guided > 0 {
                add(&mut sum, self.learn_part(part, pass, task.entropies)?);
            }
        }
        self.lanes = body.map(HostBody::into_lanes).unwrap_or_default();
        Ok(sum)
    }

    fn learn_part(&self, part: &[Example], pass: Pass, wants_entropies: bool) -> Result<StepOutput> {
        let mut forward = step::forward(self.model(), self.teacher.for_step(), part, pass);
        let seen = forward.seen.take().filter(|_| wants_entropies);
        let entropies = seen.map(|seen| online::entropies(self.model(), &seen.masked())).transpose()?;
        let losses = forward.losses;
        losses.check()?;
        let gradients = Gradients::collect(self.model(), forward.backward(self.model()));
        Ok(StepOutput { losses, gradients, entropies: entropies.unwrap_or_default() })
    }

    /// The student's body laid out for a step without tensors.
    fn host_body(&mut self) -> Option<HostBody> {
        let lanes = std::mem::take(&mut self.lanes);
        self.on_host.then(|| HostBody::new(self.model(), &self.config, lanes))
    }

    fn model(&self) -> &MaskedLm {
        self.model.as_ref().expect("taken only while the optimizer updates it")
    }
}

/// The contiguous rows of one of `n` shards, whose sizes differ by one at most.
fn shard(rows: usize, index: usize, n: usize) -> Range<usize> {
    index * rows / n..(index + 1) * rows / n
}

fn add(sum: &mut Option<StepOutput>, more: StepOutput) {
    match sum {
        None => *sum = Some(more),
        Some(sum) => {
            sum.losses = sum.losses.plus(more.losses);
            sum.gradients.add(more.gradients);
            sum.entropies.extend(more.entropies);
        }
    }
}
