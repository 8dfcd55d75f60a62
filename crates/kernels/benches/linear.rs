//! Dense layers of BERT shapes on one thread: ours against burn's matrix product, and in bf16 where the processor has units
//! for it, in turns; the least time of many.

#![expect(clippy::print_stdout, reason = "the result")]

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use entromask_kernels::{Linear, Matrix, Products, has_bf16_products};
use entromask_random::{keyed, normals};

const TOKENS: usize = 256;

fn main() {
    for (inputs, outputs) in [(256, 256), (256, 1024), (1024, 256), (768, 768), (768, 3072), (3072, 768)] {
        let draw = |n, purpose| normals(n, 0.3, &mut keyed(1, purpose, 0, 0));
        let (rows, weight, bias) =
            (draw(TOKENS * inputs, "rows"), draw(inputs * outputs, "weight"), draw(outputs, "bias"));
        let [single, half] =
            [Products::AsTensors, Products::Bf16].map(|products| Linear::new(&weight, &bias, products));
        let (mut input, mut output) = (Matrix::default(), Matrix::default());
        input.reshape(TOKENS, inputs);
        rows.chunks_exact(inputs).enumerate().for_each(|(i, row)| input.row_mut(i).copy_from_slice(row));
        let tensor = |values: &[f32], width| {
            let shape = [values.len() / width, width];
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
        };
        let (rows, weight) = (tensor(&rows, inputs), tensor(&weight, outputs));
        let (mut ours, mut theirs, mut rounded) = (f64::MAX, f64::MAX, f64::INFINITY);
        for _ in 0..40 {
            ours = ours.min(seconds(|| single.forward(&input, &mut output)));
            theirs = theirs.min(seconds(|| drop(rows.clone().matmul(weight.clone()))));
            if has_bf16_products() {
                rounded = rounded.min(seconds(|| half.forward(&input, &mut output)));
            }
        }
        let rate = |seconds: f64| (2 * TOKENS * inputs * outputs) as f64 / seconds / 1e9;
        let (ours, theirs, rounded) = (rate(ours), rate(theirs), rate(rounded));
        println!(
            "{inputs:>5} to {outputs:>5}: {ours:.1} GFLOP/s, burn {theirs:.1} GFLOP/s, in bf16 {rounded:.1} GFLOP/s"
        );
    }
}

fn seconds(run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    began.elapsed().as_secs_f64()
}
