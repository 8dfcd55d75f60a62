//! Fused against plain: 1,024 positions of a 128-wide model over BERT's vocabulary.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use entromask_kernels::{Head, Products, head_entropy_reference};
use entromask_random::{keyed, normals};

const N: usize = 1024;
const D: usize = 128;
const VOCAB: usize = 30_522;

fn head_entropy(c: &mut Criterion) {
    let draw = |n, purpose| normals(n, 0.3, &mut keyed(1, purpose, 0, 0));
    let (hidden, weight, bias) = (draw(N * D, "hidden"), draw(VOCAB * D, "weight"), draw(VOCAB, "bias"));
    let targets: Vec<u32> = (0..N as u32).collect();
    let mut group = c.benchmark_group("head_entropy");
    group.sample_size(10).throughput(Throughput::Elements(N as u64));
    let head = Head::new(&weight, &bias, Products::AsTensors);
    group.bench_function("fused", |b| b.iter(|| head.measure(&hidden, &targets)));
    let device = Device::flex();
    let tensor = |values: &[f32], rows| {
        Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, values.len() / rows]), &device)
    };
    let (hidden, weight, bias) =
        (tensor(&hidden, N), tensor(&weight, VOCAB), tensor(&bias, 1).reshape([VOCAB]));
    let ids = TensorData::new((0..N as i32).collect::<Vec<_>>(), [N]);
    let targets = Tensor::<1, Int>::from_data(ids, &device);
    group.bench_function("plain", |b| {
        b.iter(|| {
            let (hidden, weight) = (hidden.clone(), weight.clone());
            let (entropy, _) = head_entropy_reference(hidden, weight, bias.clone(), targets.clone());
            entropy.into_data()
        });
    });
    group.finish();
}

criterion_group!(benches, head_entropy);
criterion_main!(benches);
