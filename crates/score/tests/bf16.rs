//! What bf16 does to scores: a small trained model is scored in f32 by the stage, and in bf16 by the plain path, which
//! is what a GPU computes, and by the stage on a processor that multiplies in it. The type of a device holds for a process,
//! so this is a process of its own.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use assert_cmd::Command;
use assert_cmd::assert::Assert;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use entromask_artifact::{Kind, Manifest};
use entromask_encoder::{Batch, MaskedLm};
use entromask_kernels::{has_bf16_products, head_entropy_reference};
use entromask_tables::{Entropies, Ragged, TokenColumns, Tokens};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/format-1").join(name)
}

fn first_part(dir: &Path, kind: Kind) -> Result<PathBuf> {
    let manifest = Manifest::load(dir, kind)?;
    Ok(dir.join(&manifest.parts("part").next().expect("a part").file))
}

/// A copy of the golden model whose word embeddings, which are its decoder too, are larger: its logits then differ by
/// several nats, as those of a model that was trained for longer.
fn sharpened(dir: &Path) -> Result<()> {
    fs_err::create_dir(dir)?;
    for file in ["config.json", "tokenizer.json"] {
        fs_err::copy(golden("model").join(file), dir.join(file))?;
    }
    let bytes = fs_err::read(golden("model").join("model.safetensors"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let scaled = file.iter().map(|(name, tensor)| {
        let factor = if name.ends_with("word_embeddings.weight") { 35.0 } else { 1.0 };
        let values = tensor.data().as_chunks::<4>().0.iter().map(|&bytes| factor * f32::from_le_bytes(bytes));
        (name, tensor.shape().to_vec(), values.flat_map(f32::to_le_bytes).collect::<Vec<_>>())
    });
    let scaled: Vec<_> = scaled.collect();
    let views = scaled
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    Ok(fs_err::write(dir.join("model.safetensors"), safetensors::serialize(views, None)?)?)
}

/// Entropy and surprisal of each maskable token of a row, masked alone.
fn in_bf16(model: &MaskedLm, ids: &[u32], word: &[Option<u16>], mask: u32) -> Vec<(f32, f32)> {
    let (weight, bias) = model.decoder();
    let device = weight.device();
    let places: Vec<usize> = (0..ids.len()).filter(|&place| word[place].is_some()).collect();
    let mut found = Vec::new();
    for place in places {
        let mut seen = ids.to_vec();
        seen[place] = mask;
        let hidden = model.hidden(&Batch::from_rows(&[seen], 0, &device));
        let [_, _, width] = hidden.dims();
        let state = model.transform(hidden.slice([0..1, place..place + 1]).reshape([1, width]));
        assert_eq!((state.dtype(), weight.dtype()), (DType::BF16, DType::BF16));
        let target = TensorData::new(vec![ids[place] as i32], [1]);
        let target = Tensor::<1, Int>::from_data(target, &device);
        let (entropy, surprisal) = head_entropy_reference(state, weight.clone(), bias.clone(), target);
        assert_eq!((entropy.dtype(), surprisal.dtype()), (DType::F32, DType::F32));
        found.push((entropy.into_scalar(), surprisal.into_scalar()));
    }
    found
}

/// `name` in `folder` becomes the scores of twelve rows of the golden tokens by the sharpened model there.
fn score(folder: &Path, name: &str, flags: &[&str]) -> Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entromask-score"));
    command
        .current_dir(folder)
        .arg("--tokens")
        .arg(golden("tokens"))
        .args(["--model", "model", "--out", name, "-q"]);
    command.args(["--set", "conditioning=mask-each", "--set", "rows=12"]).args(flags).assert()
}

fn entropies(folder: &Path, name: &str) -> Result<Entropies> {
    Entropies::read(&first_part(&folder.join(name), Kind::Entropy)?)
}

/// Says how far pairs of entropy and surprisal are from exact ones, and how far entropies are on average and at most.
fn report(what: &str, differences: &[(f32, f32)]) -> Result<(String, f32, f32)> {
    let n = differences.len() as f32;
    let mean = differences.iter().map(|pair| pair.0.abs()).sum::<f32>() / n;
    let bias = differences.iter().map(|pair| pair.0).sum::<f32>() / n;
    let most = differences.iter().map(|pair| pair.0.abs()).fold(0.0, f32::max);
    let surprisal = differences.iter().map(|pair| pair.1.abs()).sum::<f32>() / n;
    let report = format!(
        "{n} tokens: entropy off by {mean} on average, {most} at most, bias {bias}; surprisal by {surprisal}"
    );
    // Past the harness, which shows what is printed only of a test that fails.
    writeln!(std::io::stderr(), "{what} less f32, nats: {report}")?;
    assert!(n > 200.0 && most > 0.0, "bf16 was not used: {report}");
    assert!(bias.abs() < 0.005 && surprisal < 0.03, "{report}");
    Ok((report, mean, most))
}

#[test]
fn bf16_moves_entropies_by_a_hundredth_of_a_nat() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (tokens, model) = (golden("tokens"), folder.path().join("model"));
    sharpened(&model)?;
    score(folder.path(), "exact", &[]).success();
    let exact = entropies(folder.path(), "exact")?;
    let corpus = Tokens::read(
        &first_part(&tokens, Kind::Tokens)?,
        TokenColumns { word: true, ..TokenColumns::default() },
    )?;
    let mask =
        Manifest::load(&tokens, Kind::Tokens)?.stats["special"]["mask"].as_u64().expect("a mask") as u32;

    let mut device = Device::flex();
    device.configure(FloatDType::BF16).expect("no tensor was made before");
    let (model, _) = MaskedLm::from_pretrained(&model, &device)?;
    let mut differences = Vec::new();
    for row in 0..12 {
        let rounded = in_bf16(&model, corpus.input_ids.row(row), corpus.word.row(row), mask);
        let exact = exact.entropy.row(row).iter().flatten().zip(exact.surprisal.row(row).iter().flatten());
        assert_eq!(exact.clone().count(), rounded.len());
        differences.extend(
            exact.zip(rounded).map(|((h, s), (rounded_h, rounded_s))| (rounded_h - h, rounded_s - s)),
        );
    }
    let (report, mean, most) = report("bf16", &differences)?;
    // Found when this was written: 0.0038, 0.012.
    assert!(mean < 0.01 && most < 0.05, "{report}");
    Ok(())
}

#[test]
fn a_processor_that_multiplies_in_bf16_scores_in_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    sharpened(&folder.path().join("model"))?;
    let rounded = score(folder.path(), "rounded", &["--dtype", "bf16"]);
    if !has_bf16_products() {
        let refused = String::from_utf8_lossy(&rounded.code(4).get_output().stderr).into_owned();
        assert!(refused.contains("AVX512_BF16") && refused.contains("--dtype f32"), "{refused}");
        return Ok(());
    }
    rounded.success();
    score(folder.path(), "exact", &[]).success();
    let [exact, rounded] = ["exact", "rounded"].map(|name| entropies(folder.path(), name));
    let (exact, rounded) = (exact?, rounded?);
    let differences = |of: fn(&Entropies) -> &Ragged<Option<f32>>| -> Vec<f32> {
        let pairs = of(&exact).values.iter().flatten().zip(of(&rounded).values.iter().flatten());
        pairs.map(|(exact, rounded)| rounded - exact).collect()
    };
    let (entropy, surprisal) = (differences(|all| &all.entropy), differences(|all| &all.surprisal));
    let differences: Vec<_> = entropy.into_iter().zip(surprisal).collect();
    let (report, mean, most) = report("bf16 products of the CPU", &differences)?;
    assert!(mean < 0.01 && most < 0.05, "{report}");
    Ok(())
}
