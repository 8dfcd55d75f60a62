//! Against the CPU, in tensors that no kernel has to touch, so that they pass without a GPU too (`tests/emulated_cuda`).

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::*;

/// Integers from −2 to 2, of which products are exact in every type.
fn integers(shape: &[usize], first: usize) -> TensorData {
    let count = shape.iter().product::<usize>();
    TensorData::new(
        (first..first + count).map(|i| (i * i % 5) as f32 - 2.0).collect::<Vec<_>>(),
        shape.to_vec(),
    )
}

#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn device() -> Option<Device> {
    let device =
        std::env::var("ENTROMASK_TEST_DEVICE").is_ok_and(|name| name == "cuda").then(|| Device::cuda(0));
    if device.as_ref().is_none_or(|device| !multiplies_on(device)) {
        eprintln!("skipped: needs ENTROMASK_TEST_DEVICE=cuda and cuBLASLt");
        return None;
    }
    device
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().expect("reads as f32")
}

fn check<const D: usize>(data: &[TensorData; 2], arrange: [fn(Tensor<D>) -> Tensor<D>; 2]) {
    let Some(device) = device() else { return };
    for dtype in [DType::F32, DType::BF16] {
        let multiply = |device: &Device, multiply: fn(Tensor<D>, Tensor<D>) -> Tensor<D>| {
            let place = |data: &TensorData| {
                Tensor::<D>::from_data(data.clone().convert_dtype(dtype), (device, dtype))
            };
            let [left, right] = [0, 1].map(|i| arrange[i](place(&data[i])));
            read(multiply(left, right))
        };
        assert_eq!(
            multiply(&device, |left, right| matmul(left, right, Manner::default())),
            multiply(&Device::flex(), Tensor::matmul),
            "{dtype:?}"
        );
    }
}

#[test]
fn matrices_are_multiplied() {
    for [m, k, n] in [[1, 1, 1], [5, 7, 3], [64, 32, 48], [33, 130, 257]] {
        check::<2>(&[integers(&[m, k], 1), integers(&[k, n], 2)], [|left| left, |right| right]);
        check::<2>(&[integers(&[m, k], 1), integers(&[n, k], 2)], [|left| left, Tensor::transpose]);
        check::<2>(&[integers(&[k, m], 1), integers(&[k, n], 2)], [Tensor::transpose, |right| right]);
        check::<2>(&[integers(&[k, m], 1), integers(&[n, k], 2)], [Tensor::transpose, Tensor::transpose]);
    }
}

/// As attention has them: heads beside each other.
#[test]
fn heads_are_multiplied() {
    let heads = |hidden: Tensor<4>| hidden.swap_dims(1, 2);
    let [batch_size, length, count, size] = [3, 10, 4, 16];
    let hidden = |first| integers(&[batch_size, length, count, size], first);
    check::<4>(&[hidden(1), hidden(2)], [heads, |keys| keys.swap_dims(1, 2).swap_dims(2, 3)]);
    check::<4>(&[integers(&[batch_size, count, 5, length], 1), hidden(2)], [|scores| scores, heads]);
}

#[test]
fn products_of_bf16_may_be_f32_and_scaled_and_beside_each_other() {
    let Some(device) = device() else { return };
    let (left, right) = (integers(&[2, 3, 10, 16], 1), integers(&[2, 3, 16, 24], 2));
    let place = |data: &TensorData, device: &Device, dtype: DType| {
        Tensor::<4>::from_data(data.clone().convert_dtype(dtype), (device, dtype))
    };
    let exact = place(&left, &Device::flex(), DType::F32).matmul(place(&right, &Device::flex(), DType::F32));
    let manner = Manner { scale: 0.015_625, is_widened: true, is_interleaved: true };
    let [left, right] = [&left, &right].map(|data| place(data, &device, DType::BF16));
    let found = matmul(left, right, manner);
    assert_eq!(found.dtype(), DType::F32);
    // Contiguous that way round.
    assert_eq!(read(found.swap_dims(1, 2)), read((exact * 0.015_625).swap_dims(1, 2)));
}

#[test]
fn a_bias_is_added_to_each_row() {
    let Some(device) = device() else { return };
    let shapes = [[7, 24, 40], [2, 24, 33], [31, 2, 5]];
    for (dtype, [m, k, n]) in
        [DType::F32, DType::BF16].into_iter().flat_map(|dtype| shapes.map(|shape| (dtype, shape)))
    {
        let computed = |device: &Device, affine: &dyn Fn(Tensor<2>, Tensor<2>, Tensor<1>) -> Tensor<2>| {
            let matrix = |shape: &[usize], first| {
                Tensor::<2>::from_data(integers(shape, first).convert_dtype(dtype), (device, dtype))
            };
            let bias = Tensor::from_data(integers(&[n], 3).convert_dtype(dtype), (device, dtype));
            read(affine(matrix(&[m, k], 1), matrix(&[k, n], 2), bias))
        };
        let exact = computed(&Device::flex(), &|input, weight, bias| input.matmul(weight) + bias.unsqueeze());
        assert_eq!(computed(&device, &affine), exact, "{dtype:?}, {m} × {k} × {n}");
    }
}
