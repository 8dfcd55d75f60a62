//! Floating-point operations of a forward pass. A multiplication with an addition counts two.

use crate::{EncoderConfig, Family};

impl EncoderConfig {
    /// Operations of the layers for one token in a row of `seq_length` tokens.
    ///
    /// Per layer 2·(4d² + 2df) for the dense layers (3df where they are gated) and 4·d·s for attention, where d is
    /// `hidden_size`, f `intermediate_size` and s `seq_length`. Windows of local attention are not deducted, so
    /// that the count is the same everywhere: training and GPUs compute what is outside of them and hide it, scoring on the CPU
    /// does not.
    pub fn body_flops_per_token(&self, seq_length: usize) -> f64 {
        self.forward_at_flops(seq_length, seq_length) / seq_length as f64
    }

    /// Operations of the layers for one row of `seq_length` tokens when only `n` positions are wanted: the last layer
    /// computes keys and values, 2·2d² a token, everywhere and the rest at these positions.
    pub fn forward_at_flops(&self, seq_length: usize, n: usize) -> f64 {
        let (d, d_ff, s, n) =
            (self.hidden_size as f64, self.intermediate_size as f64, seq_length as f64, n as f64);
        let products = if self.model_type == Family::ModernBert { 3.0 } else { 2.0 };
        let keys_and_values = 4.0 * d * d;
        let rest = 4.0 * d * d + 2.0 * products * d * d_ff + 4.0 * d * s;
        let full_layers = self.layer_order().len() as f64 - 1.0;
        full_layers * s * (keys_and_values + rest) + s * keys_and_values + n * rest
    }

    /// Operations of one row of `seq_length` tokens whose states are wanted at `states` positions, and predictions at `heads` of
    /// them: what a pass is charged, in scoring as in training, where it is one of three. Padding is not charged.
    pub fn pass_flops(&self, seq_length: usize, states: usize, heads: usize) -> f64 {
        self.forward_at_flops(seq_length, states) + heads as f64 * self.head_flops_per_position()
    }

    /// Operations of the masked-LM head for one position: 2·d·e + 2·V·e, where e is the width of the embeddings.
    pub fn head_flops_per_position(&self) -> f64 {
        let (d, e) = (self.hidden_size as f64, self.embedding_size() as f64);
        2.0 * d * e + 2.0 * self.vocab_size as f64 * e
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flops_of_bert_base() {
        let config = EncoderConfig::default();
        // 12 layers of 7,077,888 dense weights, plus 4·768·128 per layer for attention.
        let expected = 128.0 * 12.0 * (2.0 * 7_077_888.0 + 393_216.0);
        assert!((128.0 * config.body_flops_per_token(128) - expected).abs() < 1.0);
        // One position more in the last layer: a token's dense layers without keys and values, and its attention.
        let one = config.forward_at_flops(128, 20) - config.forward_at_flops(128, 19);
        assert!((one - (2.0 * (7_077_888.0 - 2.0 * 589_824.0) + 393_216.0)).abs() < 1.0);
    }
}
