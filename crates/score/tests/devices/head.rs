//! The head, which on the CPU is the plain reference here, against the fused head of the CPU.

use burn::tensor::{Device, Tensor, TensorData};
use entromask_kernels::{Details, DeviceHead, Head, Measures, Products};
use entromask_random::{keyed, normals};

use crate::{device, spec};

/// `exact`, or what the eleven bits of TF32 allow, to which tensor cores of CUDA round the factors of products of f32.
fn tolerance(exact: f32) -> f32 {
    if spec().starts_with("cuda") { 1e-2 } else { exact }
}

struct Case {
    n: usize,
    hidden: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    targets: Vec<u32>,
}

/// `scale` is about the standard deviation of the logits.
fn case(n: usize, hidden_size: usize, vocab_size: usize, scale: f64) -> Case {
    let draw = |n, std, purpose| normals(n, std, &mut keyed(1, purpose, 0, 0));
    Case {
        n,
        hidden: draw(n * hidden_size, scale / (hidden_size as f64).sqrt(), "hidden"),
        weight: draw(vocab_size * hidden_size, 1.0, "weight"),
        bias: draw(vocab_size, scale, "bias"),
        targets: (0..n).map(|i| (i * 7919 % vocab_size) as u32).collect(),
    }
}

impl Case {
    fn on_cpu(&self) -> Vec<(Measures, Details)> {
        Head::new(&self.weight, &self.bias, Products::AsTensors).measure_details(&self.hidden, &self.targets)
    }

    fn on(&self, device: &Device) -> Vec<(Measures, Details)> {
        let tensor = |values: &[f32], rows: usize| {
            let shape = [rows, values.len() / rows];
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let vocab_size = self.bias.len();
        let bias = tensor(&self.bias, 1).reshape([vocab_size]);
        let head = DeviceHead::new(tensor(&self.weight, vocab_size), bias);
        let all = head.measure(&tensor(&self.hidden, self.n), &self.targets, true).expect("measures");
        all.into_iter().map(|(measures, details)| (measures, details.expect("details"))).collect()
    }

    fn compare(&self, device: &Device, tolerance: f32) {
        for (index, (found, expected)) in self.on(device).into_iter().zip(self.on_cpu()).enumerate() {
            let ((a, b), (c, d)) = (found, expected);
            // The surprisal is a difference of logits, so its error grows with their size.
            let surprisal = (a.surprisal - c.surprisal) / c.surprisal.max(1.0);
            let off = [
                a.entropy - c.entropy,
                surprisal,
                b.min_entropy - d.min_entropy,
                b.renyi2 - d.renyi2,
                b.margin - d.margin,
            ];
            assert!(off.iter().all(|off| off.abs() < tolerance), "{index}: {found:?} is not {expected:?}");
        }
    }
}

#[test]
fn the_reduction_equals_that_of_the_cpu() {
    let device = device();
    // One token, fewer tokens than threads, one block, several blocks with a short last one, more positions than cubes.
    for (n, hidden_size, vocab_size, scale) in [
        (3, 4, 1, 1.0),
        (5, 8, 100, 2.0),
        (33, 32, 8_192, 1.0),
        (70, 64, 20_011, 3.0),
        (9, 16, 30_522, 0.1),
        (70_000, 4, 8, 1.0),
    ] {
        case(n, hidden_size, vocab_size, scale).compare(&device, tolerance(2e-4));
    }
}

#[test]
fn huge_logits_are_finite() {
    let device = device();
    let mut bias = vec![-1e4; 10_000];
    bias[9_000] = 1e4;
    let case = Case { n: 2, hidden: vec![0.0; 2], weight: vec![1.0; 10_000], bias, targets: vec![9_000, 3] };
    case.compare(&device, 1e-4);
    assert_eq!(case.on(&device)[1].0, Measures { entropy: 0.0, surprisal: 2e4 });
}
