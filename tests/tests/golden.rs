//! Artifacts of every format version that was ever released are still read.
//!
//! `tests/golden/make.sh` made them, once for each version.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use entromask_artifact::{Kind, Manifest};
use entromask_encoder::MaskedLm;
use entromask_tables::{Entropies, Masks, TokenColumns, Tokens};

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/format-{version}"))
}

fn open(dir: &Path, kind: Kind) -> Result<Manifest> {
    let manifest = Manifest::load(dir, kind)?;
    manifest.verify(dir)?;
    Ok(manifest)
}

fn first_part(dir: &Path, manifest: &Manifest, prefix: &str) -> PathBuf {
    dir.join(&manifest.parts(prefix).next().expect("an artifact has a part").file)
}

#[test]
fn format_1_tables_are_read_and_fit_together() -> Result<()> {
    let root = golden(1);
    let [tokens, masking, entropy] = ["tokens", "masks", "entropy"].map(|name| root.join(name));
    let manifest = open(&tokens, Kind::Tokens)?;
    assert_eq!(manifest.format, 1);
    let read = Tokens::read(&first_part(&tokens, &manifest, "part"), TokenColumns::ALL)?;
    let mask_part = Masks::read(&first_part(&masking, &open(&masking, Kind::Masks)?, "epoch-000"))?;
    let entropy_part = Entropies::read(&first_part(&entropy, &open(&entropy, Kind::Entropy)?, "part"))?;
    assert_eq!((read.rows(), mask_part.rows(), entropy_part.rows()), (30, 30, 30));
    for row in 0..read.rows() {
        let word = read.word.row(row);
        let scores = entropy_part.entropy.row(row);
        assert!(word.iter().zip(scores).all(|(word, score)| word.is_some() == score.is_some()));
        assert!(mask_part.positions.row(row).iter().all(|&position| word[position as usize].is_some()));
        let spans = read.begin.row(row).iter().zip(read.end.row(row));
        spans.for_each(|(&begin, &end)| assert!(read.text[row].get(begin as usize..end as usize).is_some()));
    }
    assert!(read.text[0].starts_with("One evening I was lounging"), "{}", read.text[0]);
    Ok(())
}

#[test]
fn format_1_models_are_read() -> Result<()> {
    let dir = golden(1).join("model");
    open(&dir, Kind::Model)?;
    let (_, config) = MaskedLm::from_pretrained(&dir, &Device::flex())?;
    assert_eq!((config.hidden_size, config.num_hidden_layers), (8, 1));
    Ok(())
}

#[test]
fn format_1_scores_are_read() -> Result<()> {
    let manifest = open(&golden(1).join("glue"), Kind::Glue)?;
    assert!(manifest.stats.to_string().contains("WNLI"), "{}", manifest.stats);
    Ok(())
}
