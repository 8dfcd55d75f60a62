//! The finished model as an artifact: a Hugging Face folder, the metrics, and what the next round goes on from.

use std::path::Path;

use anyhow::Result;
use burn::module::Module;
use entromask_artifact::{Cost, Manifest, OutputSpec, Workbench};
use fs_err as fs;
use serde_json::{Value, json};

use crate::card::card;
use crate::job::Job;
use crate::online::MASKS;
use crate::tokenizer;
use crate::train::{COUNTERS, OPTIMIZER, Trained};

/// Writes the files and the manifest, then removes the checkpoints.
pub(crate) fn publish(job: &Job, bench: Workbench, trained: &Trained, device: &str) -> Result<Manifest> {
    let mut outputs = write_model(job, &bench, trained)?;
    tokenizer::write(&bench, &job.paths.tokens, &job.tokens, &job.student)?;
    outputs.extend(tokenizer::FILES.map(OutputSpec::file));
    outputs.extend(write_state(&bench, trained)?);
    for (file, source, log) in
        [("metrics.jsonl", &trained.metrics, false), ("speed.jsonl", &trained.speed, true)]
    {
        copy(&bench, file, source)?;
        outputs.push(OutputSpec { file: file.into(), rows: None, log });
    }
    match &trained.masks {
        Some(masks) => {
            copy(&bench, MASKS, masks)?;
            outputs.push(OutputSpec::file(MASKS));
        }
        // That of a model that chose its masks while it was trained, and is replaced.
        None => bench.remove(MASKS)?,
    }
    bench.write_bytes("README.md", card(job, &bench, trained, device).as_bytes())?;
    outputs.push(OutputSpec::log("README.md"));
    let counters = &trained.counters;
    let cost = Cost {
        flops: counters.flops,
        tokens: counters.tokens - counters.earlier_tokens,
        device: device.into(),
        ..Cost::default()
    };
    // Only when it is published is nothing lost with them.
    bench.publish_then(outputs, stats(job, trained), cost, || {
        trained.checkpoints.clear()?;
        let logs = [&trained.metrics, &trained.speed].into_iter().chain(&trained.masks);
        logs.into_iter().try_for_each(fs::remove_file)?;
        Ok(())
    })
}

fn write_model(job: &Job, bench: &Workbench, trained: &Trained) -> Result<Vec<OutputSpec>> {
    let beside = bench.state_dir().join(".tmp-model");
    fs::create_dir_all(&beside)?;
    trained.model.save_pretrained(&job.student, &beside, &bench.footer())?;
    let files = ["config.json", "model.safetensors"];
    for file in files {
        copy(bench, file, &beside.join(file))?;
    }
    fs::remove_dir_all(&beside)?;
    Ok(files.map(OutputSpec::file).to_vec())
}

fn write_state(bench: &Workbench, trained: &Trained) -> Result<Vec<OutputSpec>> {
    let [optimizer, counters] =
        [OPTIMIZER, COUNTERS].map(|name| format!("state/{}/final/{name}", bench.short_key()));
    bench.write(&optimizer, |path| trained.optimizer.save(path))?;
    bench.write_bytes(&counters, &serde_json::to_vec_pretty(&trained.counters)?)?;
    Ok([optimizer, counters].map(OutputSpec::file).to_vec())
}

fn copy(bench: &Workbench, file: &str, source: &Path) -> Result<()> {
    bench.write(file, |path| Ok(fs::copy(source, path).map(drop)?))
}

fn stats(job: &Job, trained: &Trained) -> Value {
    let (counters, (valid_rows, valid_positions)) = (&trained.counters, trained.validated);
    let mut stats = json!({
        "steps": counters.step,
        "first_epoch": job.span.first_epoch,
        "end_epoch": job.span.end_epoch(),
        "tokens": counters.tokens,
        "parameters": trained.model.num_params(),
        "train_loss": counters.train_loss,
        "valid_rows": valid_rows,
        "valid_positions": valid_positions,
        "valid_loss": counters.valid.map(|score| score.loss),
        "valid_accuracy": counters.valid.map(|score| score.accuracy),
        "valid_perplexity": counters.valid.map(|score| score.perplexity),
        "vocab_size": job.student.vocab_size,
    });
    if let Some(unspent) = counters.online {
        stats["online"] = json!(unspent);
    }
    stats
}
