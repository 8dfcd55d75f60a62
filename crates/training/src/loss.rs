//! The losses in burn's operations, with autodiff. Each is a mean over positions, so that its size does not depend on
//! how many positions a batch masks.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor};

/// Cross-entropy −ln q(target), mean over the n positions, in nats.
///
/// # Shapes
/// - logits: `[n, vocab_size]`
/// - targets: `[n]`
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1)).mean().neg()
}

/// Distillation T²·KL(teacher ‖ student) at temperature T, mean over the n positions (Hinton, Vinyals, Dean 2015).
///
/// The factor T² keeps the gradient's size independent of T. No gradient flows into the teacher.
///
/// # Shapes
/// - student, teacher: logits, `[n, vocab_size]`
/// - output: `[1]`
pub fn distillation(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let teacher = teacher.detach().div_scalar(temperature);
    let difference = log_softmax(teacher.clone(), 1) - log_softmax(student.div_scalar(temperature), 1);
    (softmax(teacher, 1) * difference).sum_dim(1).mean().mul_scalar(temperature * temperature)
}

/// 1 − cos(student, teacher) of hidden states, mean over the n positions (Sanh et al. 2019, `DistilBERT`).
///
/// # Shapes
/// - student, teacher: `[n, hidden_size]`
/// - output: `[1]`
pub fn cosine(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let length = |x: Tensor<2>| x.square().sum_dim(1).clamp_min(1e-16).sqrt();
    let teacher = teacher.detach();
    let product = (student.clone() * teacher.clone()).sum_dim(1);
    (product / (length(student) * length(teacher))).mean().neg().add_scalar(1.0)
}

/// Mean squared difference of hidden states over the n positions and their components (Jiao et al. 2020, `TinyBERT`,
/// equation 8, for models of one width). No gradient flows into the teacher.
///
/// # Shapes
/// - student, teacher: `[n, hidden_size]`
/// - output: `[1]`
pub fn squared_distance(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    // By rows, for the reason that `scalars::sum` has.
    (student - teacher.detach()).square().mean_dim(1).mean()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::scalars::tests::assert_bits_follow_no_threads;

    const STUDENT: [[f32; 3]; 2] = [[0.5, -1.0, 2.0], [1.0, 0.6, -0.7]];
    const TEACHER: [[f32; 3]; 2] = [[1.0, 0.0, 1.0], [-0.5, 0.1, 0.6]];

    fn logits(values: [[f32; 3]; 2]) -> Tensor<2> {
        Tensor::from_floats(values, &Device::flex().autodiff())
    }

    fn targets() -> Tensor<1, Int> {
        Tensor::from_ints([2, 0], &Device::flex().autodiff())
    }

    fn value(loss: Tensor<1>) -> f64 {
        f64::from(loss.into_scalar::<f32>())
    }

    fn probabilities(row: [f32; 3], temperature: f64) -> [f64; 3] {
        let weights = row.map(|z| (f64::from(z) / temperature).exp());
        weights.map(|weight| weight / weights.iter().sum::<f64>())
    }

    /// Compares the gradient of `loss` at [`STUDENT`] with central differences of step 1e-2, whose error is below 1e-4
    /// for functions as smooth as these; f32 rounding adds about 1e-5.
    fn check_gradient(loss: impl Fn(Tensor<2>) -> Tensor<1>) {
        let student = logits(STUDENT).require_grad();
        let gradient = student.grad(&loss(student.clone()).backward()).expect("tracked");
        let gradient: Vec<f32> = gradient.into_data().try_into_vec().expect("f32");
        for (index, exact) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut values = STUDENT;
                values[index / 3][index % 3] += by;
                value(loss(logits(values)))
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((difference - f64::from(*exact)).abs() < 2e-4, "{index}: {difference} {exact}");
        }
    }

    #[test]
    fn cross_entropy_is_the_mean_surprisal() {
        let expected =
            -(probabilities(STUDENT[0], 1.0)[2].ln() + probabilities(STUDENT[1], 1.0)[0].ln()) / 2.0;
        assert!((value(cross_entropy(logits(STUDENT), targets())) - expected).abs() < 1e-6);
        check_gradient(|student| cross_entropy(student, targets()));
    }

    #[test]
    fn distillation_is_the_mean_divergence_times_the_squared_temperature() {
        let temperature = 2.0;
        let divergence = |row: usize| -> f64 {
            let (p, q) = (probabilities(TEACHER[row], temperature), probabilities(STUDENT[row], temperature));
            p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
        };
        let expected = 4.0 * f64::midpoint(divergence(0), divergence(1));
        let loss = |student| distillation(student, logits(TEACHER), temperature);
        assert!((value(loss(logits(STUDENT))) - expected).abs() < 1e-6);
        assert!(value(loss(logits(TEACHER))).abs() < 1e-6, "no divergence from itself");
        check_gradient(loss);
    }

    /// Row 0: (0.5 + 0 + 2) / (√5.25 · √2) = 0.771517; row 1: (−0.5 + 0.06 − 0.42) / (√1.85 · √0.62) = −0.803002.
    #[test]
    fn cosine_is_one_minus_the_mean_cosine() {
        let loss = |student| cosine(student, logits(TEACHER));
        assert!((value(loss(logits(STUDENT))) - (1.0 - (0.771_517 - 0.803_002) / 2.0)).abs() < 1e-5);
        assert!(value(loss(logits(TEACHER).mul_scalar(3.0))).abs() < 1e-6, "length does not matter");
        check_gradient(loss);
    }

    /// Squares 0.25, 1, 1 and 2.25, 0.25, 1.69: the mean of the six is 6.44 / 6.
    #[test]
    fn squared_distance_is_a_mean_over_positions_and_components() {
        let loss = |student| squared_distance(student, logits(TEACHER));
        assert!((value(loss(logits(STUDENT))) - 6.44 / 6.0).abs() < 1e-6);
        check_gradient(loss);
    }

    #[test]
    fn distances_of_many_positions_are_the_same_bits_on_any_number_of_threads() {
        assert_bits_follow_no_threads(|states| {
            let distance = squared_distance(states.clone(), states.zeros_like());
            vec![distance.into_scalar()]
        });
    }
}
