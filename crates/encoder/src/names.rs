//! Names of tensors: the path in our modules, and the name in a Hugging Face checkpoint.

/// Name in a Hugging Face BERT checkpoint of the parameter at `path`, the field names from the model down.
pub(crate) fn hugging_face(path: &[String]) -> String {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["encoder", "embeddings", table, part] => {
            format!("bert.embeddings.{}.{}", module(table), parameter(part))
        }
        ["encoder", "layers", number, "attention", matrix, part] => {
            format!("bert.encoder.layer.{number}.attention.self.{matrix}.{}", parameter(part))
        }
        ["encoder", "layers", number, block, part] => {
            format!("bert.encoder.layer.{number}.{}.{}", module(block), parameter(part))
        }
        ["head", "bias"] => "cls.predictions.bias".to_owned(),
        ["head", block, part] => format!("cls.predictions.transform.{}.{}", module(block), parameter(part)),
        ["pooler", part] => format!("bert.pooler.dense.{part}"),
        other => other.join("."),
    }
}

/// Names under which `name` is stored in checkpoints of other origin: with the old names of layer normalisation, and
/// without the prefix of the body.
pub(crate) fn variants(name: &str) -> impl Iterator<Item = String> {
    let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
    let decoder = name.replace("predictions.bias", "predictions.decoder.bias");
    let names = [name.to_owned(), old, decoder];
    let bare = names.clone().map(|name| name.trim_start_matches("bert.").to_owned());
    names.into_iter().chain(bare)
}

/// Whether the tensor is the weight of a dense layer, which checkpoints store as `[d_output, d_input]` and burn as
/// `[d_input, d_output]`.
pub(crate) fn is_dense(name: &str) -> bool {
    name.ends_with(".weight") && !name.contains("embeddings") && !is_norm(name)
}

/// Whether the tensor belongs to a layer normalisation.
pub(crate) fn is_norm(name: &str) -> bool {
    name.contains("LayerNorm.")
}

fn module(field: &str) -> &str {
    match field {
        "norm" => "LayerNorm",
        "attention_output" => "attention.output.dense",
        "attention_norm" => "attention.output.LayerNorm",
        "intermediate" => "intermediate.dense",
        "output" => "output.dense",
        "output_norm" => "output.LayerNorm",
        same => same,
    }
}

fn parameter(field: &str) -> &str {
    match field {
        "gamma" => "weight",
        "beta" => "bias",
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> String {
        hugging_face(&path.split('/').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn paths_become_the_names_of_checkpoints() {
        assert_eq!(
            name("encoder/embeddings/word_embeddings/weight"),
            "bert.embeddings.word_embeddings.weight"
        );
        assert_eq!(name("encoder/embeddings/norm/gamma"), "bert.embeddings.LayerNorm.weight");
        assert_eq!(
            name("encoder/layers/3/attention/query/bias"),
            "bert.encoder.layer.3.attention.self.query.bias"
        );
        assert_eq!(
            name("encoder/layers/0/attention_norm/beta"),
            "bert.encoder.layer.0.attention.output.LayerNorm.bias"
        );
        assert_eq!(name("encoder/layers/0/output/weight"), "bert.encoder.layer.0.output.dense.weight");
        assert_eq!(name("head/norm/gamma"), "cls.predictions.transform.LayerNorm.weight");
        assert_eq!(name("head/bias"), "cls.predictions.bias");
        assert_eq!(name("pooler/weight"), "bert.pooler.dense.weight");
        assert_eq!(name("classifier/bias"), "classifier.bias");
    }

    #[test]
    fn only_dense_weights_are_transposed() {
        assert!(is_dense("bert.encoder.layer.0.output.dense.weight") && is_dense("classifier.weight"));
        assert!(!is_dense("bert.embeddings.word_embeddings.weight"));
        assert!(!is_dense("bert.encoder.layer.0.output.LayerNorm.weight"));
        assert!(!is_dense("bert.encoder.layer.0.output.dense.bias"));
    }
}
