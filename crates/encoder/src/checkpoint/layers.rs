//! A new model from the weights of another: all of them, or those of chosen layers.

use anyhow::Result;
use entromask_fault::Fault;

use super::weights::Source;
use super::{Drawn, Stored};
use crate::families::names::Slot;
use crate::{EncoderConfig, Family, ModernBertConfig};

const POSITIONS: &str = "encoder/embeddings/position_embeddings/weight";
const SEGMENTS: &str = "encoder/embeddings/token_type_embeddings/weight";

/// What has a row for each token.
const OF_TOKENS: [&str; 3] =
    ["encoder/embeddings/word_embeddings/weight", "head/decoder/weight", "head/bias"];

/// The weights of a model like `origin` for a model like `config`.
pub(crate) struct Layers<'a> {
    pub(crate) stored: Stored,
    pub(crate) origin: &'a EncoderConfig,
    pub(crate) config: &'a EncoderConfig,
    /// For each layer of the new model the layer whose weights it takes; each its own without.
    pub(crate) chosen: Option<&'a [usize]>,
    /// Weights of a new masked-LM head.
    pub(crate) head: Option<Drawn>,
}

impl Layers<'_> {
    /// Refuses models between which weights cannot be handed on.
    ///
    /// # Errors
    ///
    /// A usage fault that names the field and both values.
    pub(crate) fn check(&self) -> Result<()> {
        let dir = self.stored.dir().display();
        if let Some(problem) = self.family_problem() {
            return Err(Fault::usage(format!("{dir}: {problem}")).into());
        }
        if let Some((field, theirs, ours)) = self.sizes().into_iter().find(|(_, theirs, ours)| theirs != ours)
        {
            return Err(Fault::usage(format!("{dir}: {field} is {theirs}, the new model's is {ours}"))
                .remedy("weights can be handed on between models of equal widths only")
                .into());
        }
        // Last, since choosing layers cures nothing else.
        self.layers_problem().map_or(Ok(()), |problem| Err(Fault::usage(format!("{dir}: {problem}")).into()))
    }

    /// `DistilBERT` is BERT without segments.
    fn family_problem(&self) -> Option<String> {
        let (theirs, ours) = (self.origin.model_type, self.config.model_type);
        let alike = theirs == ours || (theirs, ours) == (Family::Bert, Family::DistilBert);
        (!alike).then(|| format!("{theirs:?} cannot hand its weights on to {ours:?}"))
    }

    fn layers_problem(&self) -> Option<String> {
        let (theirs, ours) = (self.origin.num_hidden_layers, self.config.num_hidden_layers);
        let Some(layers) = self.chosen else {
            let some: Vec<usize> = (0..ours).map(|depth| depth * theirs / ours.max(1)).collect();
            return (theirs != ours).then(|| {
                format!("it has {theirs} layers, the new model {ours}: choose {ours} of them, as init.layers = {some:?}")
            });
        };
        if self.origin.model_type == Family::Albert {
            return Some("its layers share their weights: there is nothing to choose".to_owned());
        }
        if layers.len() != ours {
            return Some(format!("{} layers are chosen for a model of {ours}", layers.len()));
        }
        if let Some(beyond) = layers.iter().find(|layer| **layer >= theirs) {
            return Some(format!("layer {beyond} is chosen, but its layers are 0 to {}", theirs - 1));
        }
        self.kind_problem(layers)
    }

    /// A ModernBERT's depth says how far a layer looks, and that the first one does not normalise what it reads.
    fn kind_problem(&self, layers: &[usize]) -> Option<String> {
        if self.origin.model_type != Family::ModernBert {
            return None;
        }
        let period = self.origin.modernbert().global_attn_every_n_layers;
        let kind = |depth: usize| (depth == 0, depth.is_multiple_of(period));
        let (depth, layer) = layers.iter().enumerate().find(|&(depth, &layer)| kind(depth) != kind(layer))?;
        Some(format!(
            "layer {layer} is chosen for depth {depth}, where it would compute something else: \
             take layer 0 for depth 0 only, and those that see the whole row, every {period}-th, for each other"
        ))
    }

    /// What has to be equal, and whether there are enough positions and tokens.
    fn sizes(&self) -> Vec<(&'static str, String, String)> {
        let (theirs, ours) = (self.origin, self.config);
        let own = |config: &EncoderConfig| without_training(&config.modernbert());
        let segments = |config: &EncoderConfig| match ours.type_vocab_size {
            0 => 0,
            _ => config.type_vocab_size,
        };
        let positions = |config: &EncoderConfig| match config.model_type {
            // Rotary positions have no weights.
            Family::ModernBert => 0,
            _ => config.max_position_embeddings.min(ours.max_position_embeddings),
        };
        let pairs = |field, of: &dyn Fn(&EncoderConfig) -> String| (field, of(theirs), of(ours));
        vec![
            pairs("hidden_size", &|config| config.hidden_size.to_string()),
            pairs("intermediate_size", &|config| config.intermediate_size.to_string()),
            pairs("num_attention_heads", &|config| config.num_attention_heads.to_string()),
            pairs("embedding_size", &|config| config.embedding_size().to_string()),
            pairs("vocab_size", &|config| config.vocab_size.min(ours.vocab_size).to_string()),
            pairs("hidden_act", &|config| format!("{:?}", config.hidden_act)),
            pairs("layer_norm_eps", &|config| format!("{:e}", config.layer_norm_eps)),
            pairs("num_hidden_groups", &|config| config.num_hidden_groups.to_string()),
            pairs("inner_group_num", &|config| config.inner_group_num.to_string()),
            pairs("tie_word_embeddings", &|config| config.tie_word_embeddings.to_string()),
            pairs("type_vocab_size", &|config| segments(config).to_string()),
            pairs("max_position_embeddings", &|config| positions(config).to_string()),
            pairs("first position", &|config| config.first_position().to_string()),
            pairs("modernbert", &|config| format!("{:?}", own(config))),
        ]
    }

    /// The parameter of the other model that `slot` takes its values from.
    fn origin_of(&self, path: &str) -> Slot {
        let mut fields: Vec<String> = path.split('/').map(str::to_owned).collect();
        if let (Some(layers), ["encoder", "layers", ..]) =
            (self.chosen, &fields.iter().map(String::as_str).collect::<Vec<_>>()[..])
        {
            let depth: usize = fields[2].parse().expect("a layer has a number");
            fields[2] = layers[depth].to_string();
        }
        Slot::new(self.origin, &fields)
    }

    /// The first tokens.
    fn tokens(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
        let theirs = [&[self.origin.vocab_size], &shape[1..]].concat();
        let mut values = self.stored.tensor(slot, &theirs)?;
        values.truncate(shape.iter().product());
        Ok(values)
    }

    /// The first positions. Where the new model has no segments, the first segment's embedding, which was added to each
    /// token, is in them.
    fn positions(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
        let theirs = [self.origin.max_position_embeddings, self.origin.embedding_size()];
        let mut values = self.stored.tensor(slot, &theirs)?;
        values.truncate(shape.iter().product());
        if self.config.type_vocab_size == 0 && self.origin.type_vocab_size > 0 {
            let width = self.origin.embedding_size();
            let segments =
                self.stored.tensor(&self.origin_of(SEGMENTS), &[self.origin.type_vocab_size, width])?;
            values.chunks_mut(width).for_each(|row| row.iter_mut().zip(&segments).for_each(|(a, b)| *a += b));
        }
        Ok(values)
    }
}

impl Source for Layers<'_> {
    fn tensor(&self, slot: &Slot, shape: &[usize]) -> Result<Vec<f32>> {
        if let Some(head) = self.head.as_ref().filter(|_| slot.path.starts_with("head/")) {
            return head.tensor(slot, shape);
        }
        let origin = self.origin_of(&slot.path);
        if slot.path == POSITIONS {
            return self.positions(&origin, shape);
        }
        if OF_TOKENS.contains(&slot.path.as_str()) {
            return self.tokens(&origin, shape);
        }
        self.stored.tensor(&origin, shape)
    }
}

/// Without what matters only while a model is trained.
fn without_training(modern: &ModernBertConfig) -> ModernBertConfig {
    ModernBertConfig { mlp_dropout: 0.0, initializer_cutoff_factor: None, ..modern.clone() }
}
