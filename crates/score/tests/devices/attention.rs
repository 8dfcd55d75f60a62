//! Attention by products and, where a device has that, in one pass.

use burn::tensor::{Bool, Device, FloatDType, Tensor, TensorData};
use entromask_kernels::{Products, attention, attention_weights};
use entromask_random::{keyed, normals};

use crate::products::{read, types, worst};
use crate::{device, spec};

type Attend = fn([Tensor<4>; 3], Option<Tensor<4, Bool>>) -> Tensor<4>;

/// Rows, heads, queries, keys, values of a head. Queries of all positions, and of few.
const SHAPES: [[usize; 5]; 8] = [
    [16, 4, 128, 128, 64],
    [64, 4, 18, 128, 64],
    [5, 12, 17, 77, 64],
    [3, 2, 9, 9, 40],
    [2, 3, 1, 200, 16],
    [2, 1, 150, 150, 128],
    [3, 2, 65, 63, 32],
    [1, 2, 16, 64, 48],
];

#[test]
fn attention_by_products_is_right() {
    check(by_products);
}

/// Where there is no kernel for a shape or a type, it is by products again.
#[test]
fn attention_in_one_pass_is_right() {
    check(in_one_pass);
}

/// By which it is seen that the kernel was asked: it rounds weights before they are divided by their sum.
#[test]
fn attention_on_cuda_is_not_by_products_in_bf16() {
    if !spec().starts_with("cuda") || std::env::var_os("ENTROMASK_ATTENTION").is_some() {
        return;
    }
    let draw = |purpose| {
        let values = normals(2 * 4 * 64 * 64, 1.0, &mut keyed(2, purpose, 0, 0));
        Tensor::<4>::from_data(TensorData::new(values, [2, 4, 64, 64]), &device()).cast(FloatDType::BF16)
    };
    let parts = ["query", "key", "value"].map(draw);
    let [one, other] = [in_one_pass, by_products]
        .map(|attend: Attend| read(attend(parts.clone(), None).cast(FloatDType::F32)));
    assert_ne!(one, other);
}

fn in_one_pass([query, key, value]: [Tensor<4>; 3], hidden: Option<Tensor<4, Bool>>) -> Tensor<4> {
    attention(query, key, value, hidden)
}

/// Against products in f32 on the CPU. Heads lie as an encoder has them, beside each other.
fn check(attend: Attend) {
    let device = device();
    for shape in SHAPES {
        let [rows, heads, n, length, size] = shape;
        let draw = |length: usize, purpose| {
            let values = normals(rows * heads * length * size, 1.0, &mut keyed(1, purpose, length as u64, 0));
            TensorData::new(values, [rows, length, heads, size])
        };
        let parts = [draw(n, "query"), draw(length, "key"), draw(length, "value")];
        for hiding in [Hiding::Nothing, Hiding::Padding, Hiding::Some] {
            let attended = |attend: Attend, device: &Device, dtype: FloatDType, computed: FloatDType| {
                let parts = parts.clone().map(|data| {
                    Tensor::<4>::from_data(data, device).cast(dtype).cast(computed).swap_dims(1, 2)
                });
                let attended = attend(parts, hiding.mask(shape, device));
                read(attended.swap_dims(1, 2).reshape([rows, n, heads * size]).cast(FloatDType::F32))
            };
            for dtype in types(&device) {
                let found = attended(attend, &device, dtype, dtype);
                let exact = attended(by_products, &Device::flex(), dtype, FloatDType::F32);
                // Scores may be rounded, and weights are before they multiply values.
                let bound = if dtype == FloatDType::BF16 { 2e-2 } else { 1e-5 };
                let (most, at) = worst(&found, &exact, dtype);
                assert!(most <= bound, "{shape:?}, {hiding:?}, {dtype:?}: off by {most} at {at}");
            }
        }
    }
}

/// Which keys no query may see, or not each of them.
#[derive(Clone, Copy, Debug)]
enum Hiding {
    Nothing,
    /// The last keys of all rows but the first, and all keys of a last row of several.
    Padding,
    /// A third of the keys, others for each query, as a window would.
    Some,
}

impl Hiding {
    fn mask(self, [rows, heads, n, length, _]: [usize; 5], device: &Device) -> Option<Tensor<4, Bool>> {
        let is_last = |row: usize| row > 0 && row + 1 == rows;
        let mask = |hidden: Vec<bool>, queries: usize| {
            Tensor::<3, Bool>::from_data(TensorData::new(hidden, [rows, queries, length]), device)
                .reshape([rows, 1, queries, length])
                .expand([rows, heads, n, length])
        };
        match self {
            Self::Nothing => None,
            Self::Padding => {
                let is_hidden = |i| is_last(i / length) || i % length + i / length > length;
                Some(mask((0..rows * length).map(is_hidden).collect(), 1))
            }
            Self::Some => {
                Some(mask((0..rows * n * length).map(|i| (i + i / length).is_multiple_of(3)).collect(), n))
            }
        }
    }
}

fn by_products([query, key, value]: [Tensor<4>; 3], hidden: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let weights = attention_weights(Products::AsTensors.scores(query, key), hidden);
    Products::AsTensors.attended(weights, value)
}
