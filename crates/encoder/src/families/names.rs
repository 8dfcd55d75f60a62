//! Names of tensors: the path in our modules, and the name in a Hugging Face checkpoint.

use super::Layout;
use crate::EncoderConfig;

/// What a tensor is in a model, and so how it begins and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Weight of a dense layer, which checkpoints store as `[d_output, d_input]` and burn as `[d_input, d_output]`.
    Dense,
    /// Rows of embeddings, and the decoder's weight.
    Table,
    /// Scale of a layer normalisation.
    Scale,
    /// Bias of a dense layer or shift of a layer normalisation.
    Bias,
}

/// A parameter by its place in our modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Field names from the model down, variants of enumerations left out: `encoder/layers/0/output/weight`.
    pub(crate) path: String,
    /// Name in a Hugging Face checkpoint.
    pub(crate) name: String,
    /// What it is.
    pub(crate) role: Role,
}

impl Slot {
    /// The parameter at `path`.
    ///
    /// # Panics
    ///
    /// When the family's table does not name the module, which is a bug.
    pub(crate) fn new(config: &EncoderConfig, path: &[String]) -> Self {
        let fields: Vec<&str> =
            path.iter().map(String::as_str).filter(|field| !VARIANTS.contains(field)).collect();
        let (&part, module) = fields.split_last().expect("a parameter has a name");
        let name = format!("{}.{}", module_name(config, module), parameter(part));
        Self { path: fields.join("/"), name, role: role(module, part) }
    }
}

/// Names under which `name` is stored in checkpoints of other origin: with the bias of the head at its decoder, which is
/// the one that counts where both are stored, with the old names of layer normalisation, and each of them without the
/// prefix of the body.
pub(crate) fn variants(layout: &Layout, name: &str) -> Vec<String> {
    let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    let names = [at_decoder(name).unwrap_or_else(|| name.to_owned()), name.to_owned(), old];
    let bare = names.clone().map(|name| name.strip_prefix(layout.prefix).unwrap_or(&name).to_owned());
    names.into_iter().chain(bare).collect()
}

/// Whether `module` is what `pattern` of a family's table names, for some layer.
pub(crate) fn same_place(pattern: &str, module: &str) -> bool {
    let (patterns, found) = (pattern.split('.'), module.split('.'));
    let matches = |(pattern, found): (&str, &str)| {
        pattern == found || (pattern.starts_with('{') && found.parse::<usize>().is_ok())
    };
    patterns.clone().count() == found.clone().count() && patterns.zip(found).all(matches)
}

/// The second name of the head's bias.
pub(crate) fn at_decoder(name: &str) -> Option<String> {
    let head = ["cls.predictions.bias", "lm_head.bias", "predictions.bias"].contains(&name);
    head.then(|| name.replace(".bias", ".decoder.bias"))
}

/// Variants of [`crate::Encoder`], which its visitors name like fields.
const VARIANTS: [&str; 2] = ["Absolute", "Rotary"];

fn module_name(config: &EncoderConfig, module: &[&str]) -> String {
    let number = module.iter().find_map(|field| field.parse::<usize>().ok()).unwrap_or(0);
    let path: Vec<&str> =
        module.iter().map(|field| if field.parse::<usize>().is_ok() { "{}" } else { field }).collect();
    let path = path.join("/");
    let table = config.model_type.layout().tensors;
    let (_, name) =
        table.iter().find(|(ours, _)| *ours == path).unwrap_or_else(|| panic!("{path} has no name"));
    let (group, inner) = (number / config.inner_group_num, number % config.inner_group_num);
    name.replace("{}", &number.to_string())
        .replace("{group}", &group.to_string())
        .replace("{inner}", &inner.to_string())
}

fn role(module: &[&str], part: &str) -> Role {
    let owner = module.last().copied().unwrap_or_default();
    match part {
        "gamma" => Role::Scale,
        "bias" | "beta" => Role::Bias,
        _ if owner.ends_with("embeddings") || owner == "decoder" => Role::Table,
        _ => Role::Dense,
    }
}

fn parameter(part: &str) -> &str {
    match part {
        "gamma" => "weight",
        "beta" => "bias",
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    fn slot(model_type: Family, path: &str) -> Slot {
        let config = EncoderConfig { model_type, inner_group_num: 2, ..EncoderConfig::default() };
        Slot::new(&config, &path.split('/').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn paths_become_the_names_of_checkpoints() {
        let cases = [
            (
                Family::Bert,
                "encoder/Absolute/embeddings/word_embeddings/weight",
                "bert.embeddings.word_embeddings.weight",
            ),
            (Family::Bert, "encoder/Absolute/embeddings/norm/gamma", "bert.embeddings.LayerNorm.weight"),
            (
                Family::Bert,
                "encoder/Absolute/layers/3/attention/query/bias",
                "bert.encoder.layer.3.attention.self.query.bias",
            ),
            (Family::Bert, "head/norm/beta", "cls.predictions.transform.LayerNorm.bias"),
            (Family::Bert, "head/bias", "cls.predictions.bias"),
            (Family::Bert, "head/decoder/weight", "cls.predictions.decoder.weight"),
            (Family::Roberta, "head/bias", "lm_head.bias"),
            (Family::XlmRoberta, "classifier/bias", "classifier.out_proj.bias"),
            (
                Family::DistilBert,
                "encoder/Absolute/layers/0/intermediate/weight",
                "distilbert.transformer.layer.0.ffn.lin1.weight",
            ),
            (
                Family::Albert,
                "encoder/Absolute/layers/3/output_norm/gamma",
                "albert.encoder.albert_layer_groups.1.albert_layers.1.full_layer_layer_norm.weight",
            ),
            (Family::Electra, "head/bias", "generator_lm_head.bias"),
            (Family::MegatronBert, "encoder/Absolute/norm/beta", "bert.encoder.ln.bias"),
            (Family::ModernBert, "encoder/Rotary/layers/7/mlp/input/weight", "model.layers.7.mlp.Wi.weight"),
        ];
        for (family, path, name) in cases {
            assert_eq!(slot(family, path).name, name);
        }
    }

    #[test]
    fn roles_follow_from_the_place() {
        assert_eq!(slot(Family::Bert, "pooler/weight").role, Role::Dense);
        assert_eq!(slot(Family::Bert, "head/decoder/weight").role, Role::Table);
        assert_eq!(slot(Family::Bert, "encoder/embeddings/position_embeddings/weight").role, Role::Table);
        assert_eq!(slot(Family::Bert, "head/norm/gamma").role, Role::Scale);
        assert_eq!(slot(Family::Bert, "head/norm/beta").role, Role::Bias);
    }

    #[test]
    fn other_names_are_tried() {
        let layout = Family::Bert.layout();
        let names = variants(layout, "bert.embeddings.LayerNorm.weight");
        assert!(names.contains(&"embeddings.LayerNorm.gamma".to_owned()), "{names:?}");
        let names = variants(layout, "cls.predictions.bias");
        assert!(names.contains(&"cls.predictions.decoder.bias".to_owned()), "{names:?}");
    }
}
