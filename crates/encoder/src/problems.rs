//! What can be wrong with the shape of a model.

use crate::EncoderConfig;
use crate::families::Family;

/// More layers than anybody has stacked.
const DEEPEST: usize = 10_000;

impl EncoderConfig {
    /// What is wrong with the sizes.
    pub(crate) fn problem(&self) -> Option<String> {
        let problems = [
            Self::zero_problem,
            Self::depth_problem,
            Self::positions_problem,
            Self::heads_problem,
            Self::dropout_problem,
            Self::number_problem,
            Self::family_problem,
        ];
        problems.into_iter().find_map(|problem| problem(self))
    }

    /// A field that the family does not have.
    fn family_problem(&self) -> Option<String> {
        use Family::{Albert, DistilBert, Electra, ModernBert};
        let family = self.model_type;
        let shared = self.num_hidden_groups > 1 || self.inner_group_num > 1;
        let narrow = self.embedding_size() != self.hidden_size;
        let problems = [
            (self.type_vocab_size > 0 && [DistilBert, ModernBert].contains(&family), "type_vocab_size = 0"),
            (self.modernbert.is_some() && family != ModernBert, "no [modernbert]"),
            (shared && family != Albert, "num_hidden_groups = 1 and inner_group_num = 1"),
            (narrow && ![Albert, Electra].contains(&family), "embedding_size = hidden_size"),
            // Its config.json has no key for another one.
            (
                family == DistilBert && (self.layer_norm_eps - Self::default().layer_norm_eps).abs() > 0.0,
                "layer_norm_eps = 1e-12",
            ),
        ];
        let (_, wanted) = problems.into_iter().find(|(wrong, _)| *wrong)?;
        Some(format!("{family:?} needs {wanted}"))
    }

    fn zero_problem(&self) -> Option<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("embedding_size", self.embedding_size()),
            ("num_hidden_groups", self.num_hidden_groups),
            ("inner_group_num", self.inner_group_num),
            ("global_attn_every_n_layers", self.modernbert().global_attn_every_n_layers),
        ];
        let (name, _) = sizes.iter().find(|(_, size)| *size == 0)?;
        Some(format!("{name} is 0"))
    }

    /// ALBERT's depth shows in no tensor.
    fn depth_problem(&self) -> Option<String> {
        let (layers, inner) = (self.num_hidden_layers, self.inner_group_num);
        let depth = layers.saturating_mul(inner);
        let all =
            if inner > 1 { format!("{layers} times inner_group_num {inner}") } else { layers.to_string() };
        (depth > DEEPEST).then(|| format!("num_hidden_layers {all} is beyond {DEEPEST}"))
    }

    /// RoBERTa's first position is the one behind that of padding.
    fn positions_problem(&self) -> Option<String> {
        let (all, first) = (self.max_position_embeddings, self.first_position());
        let problem = || format!("max_position_embeddings is {all}, the first token's position {first}");
        (self.max_seq_length() == 0).then(problem)
    }

    fn heads_problem(&self) -> Option<String> {
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        if !width.is_multiple_of(heads) {
            return Some(format!("hidden_size {width} is not a multiple of num_attention_heads {heads}"));
        }
        let odd = self.model_type == Family::ModernBert && !(width / heads).is_multiple_of(2);
        odd.then(|| format!("{} dimensions a head, but rotary positions take pairs", width / heads))
    }

    /// Numbers with which a model computes nothing, or never begins.
    fn number_problem(&self) -> Option<String> {
        let modern = self.modernbert();
        let at_least = [
            ("layer_norm_eps", self.layer_norm_eps, 0.0),
            ("initializer_range", self.initializer_range, 0.0),
            // Frequencies are its powers.
            ("global_rope_theta", modern.global_rope_theta, 1.0),
            ("local_rope_theta", modern.local_rope_theta, 1.0),
            // Normals within a tenth of a deviation are one of twelve that are drawn.
            ("initializer_cutoff_factor", modern.initializer_cutoff_factor.unwrap_or(1.0), 0.1),
        ];
        // Weights and norms are f32.
        let is_good = |value: f64, least| (value as f32).is_finite() && value >= least;
        let (name, value, least) = at_least.into_iter().find(|&(_, value, least)| !is_good(value, least))?;
        Some(if value >= least && value.is_finite() {
            format!("{name} is {value:e}, more than 32 bits hold")
        } else {
            format!("{name} is {value}; it has to be at least {least}")
        })
    }

    fn dropout_problem(&self) -> Option<String> {
        let probabilities = [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("classifier_dropout", self.classifier_dropout.unwrap_or(0.0)),
            ("mlp_dropout", self.modernbert().mlp_dropout),
        ];
        let (name, value) = probabilities.into_iter().find(|(_, p)| !(0.0..1.0).contains(p))?;
        Some(format!("{name} is {value}, outside of [0, 1)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModernBertConfig;

    #[test]
    fn numbers_that_compute_nothing_are_refused() {
        let modern = |modernbert| EncoderConfig {
            model_type: Family::ModernBert,
            type_vocab_size: 0,
            modernbert: Some(modernbert),
            ..EncoderConfig::default()
        };
        let usual = ModernBertConfig::default;
        let bert = EncoderConfig::default;
        let cases = [
            (
                EncoderConfig { layer_norm_eps: -1.0, ..bert() },
                "layer_norm_eps is -1; it has to be at least 0",
            ),
            (EncoderConfig { layer_norm_eps: f64::NAN, ..bert() }, "layer_norm_eps is NaN"),
            (EncoderConfig { layer_norm_eps: 1e308, ..bert() }, "layer_norm_eps is 1e308, more than"),
            (
                EncoderConfig { model_type: Family::Albert, inner_group_num: 1 << 40, ..bert() },
                "times inner_group_num 1099511627776 is beyond 10000",
            ),
            (EncoderConfig { initializer_range: f64::INFINITY, ..bert() }, "initializer_range is inf"),
            (
                modern(ModernBertConfig { global_rope_theta: 0.0, ..usual() }),
                "global_rope_theta is 0; it has to be at least 1",
            ),
            (modern(ModernBertConfig { local_rope_theta: -5.0, ..usual() }), "local_rope_theta is -5"),
            (
                modern(ModernBertConfig { initializer_cutoff_factor: Some(0.0), ..usual() }),
                "cutoff_factor is 0; it has to be at least 0.1",
            ),
            (
                EncoderConfig {
                    model_type: Family::DistilBert,
                    type_vocab_size: 0,
                    layer_norm_eps: 0.5,
                    ..bert()
                },
                "DistilBert needs layer_norm_eps = 1e-12",
            ),
        ];
        for (config, named) in cases {
            let problem = config.problem().expect("refused");
            assert!(problem.contains(named), "{problem}");
        }
        assert_eq!(modern(usual()).problem(), None);
        assert_eq!(EncoderConfig { pad_token_id: 40_000, ..bert() }.filling_id(), 0);
    }

    #[test]
    fn a_position_is_left_for_the_first_token() {
        let of = |pad_token_id, max_position_embeddings| EncoderConfig {
            model_type: Family::Roberta,
            pad_token_id,
            max_position_embeddings,
            type_vocab_size: 1,
            ..EncoderConfig::default()
        };
        assert_eq!(of(38, 40).problem(), None);
        for pad in [39, 40, 600] {
            let problem = of(pad, 40).problem().expect("no position is left");
            assert!(problem.contains(&format!("is 40, the first token's position {}", pad + 1)), "{problem}");
        }
    }

    #[test]
    fn rotary_heads_have_even_widths() {
        let odd = EncoderConfig {
            model_type: Family::ModernBert,
            hidden_size: 15,
            num_attention_heads: 5,
            ..EncoderConfig::default()
        };
        assert!(odd.problem().expect("a problem").contains("pairs"));
    }
}
