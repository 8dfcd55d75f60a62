//! Ground truth without a model: the corpus comes from a Markov chain, so the entropy of each token given all others is
//! known, and what a trained model scores with one token masked at a time has to come near it.
//!
//! For a chain with start u and transitions P, the token at position i depends on its neighbours a and b only:
//! q(x) ∝ P(a, x) P(x, b); at the first position q(x) ∝ u(x) P(x, b), at the last q(x) = P(a, x).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use entromask_artifact::{Cost, Kind, Manifest, OutputSpec, Recipe, Workbench, tool};
use entromask_random::{keyed, normals, open_unit};
use entromask_tables::{Entropies, TokenColumns, Tokens};
use serde_json::{Value, json};

/// States of the chain; token ids are these numbers plus `FIRST`.
const STATES: usize = 6;
const FIRST: u32 = 5;
const LENGTH: usize = 10;
const ROWS: usize = 6144;
const SCORED: usize = 150;
const EPOCHS: usize = 24;

struct Chain {
    transitions: Vec<Vec<f64>>,
}

impl Chain {
    /// Far from uniform, and different in every row.
    fn new() -> Self {
        let draws = normals(STATES * STATES, 1.5, &mut keyed(1, "chain", 0, 0));
        let transitions =
            draws.chunks(STATES).map(|row| normalized(row.iter().map(|&x| f64::from(x).exp()).collect()));
        Self { transitions: transitions.collect() }
    }

    fn sample(&self, row: u64) -> Vec<usize> {
        let mut rng = keyed(1, "chain rows", row, 0);
        let mut states = vec![draw(&[1.0 / STATES as f64; STATES], open_unit(&mut rng))];
        while states.len() < LENGTH {
            let next = &self.transitions[states[states.len() - 1]];
            states.push(draw(next, open_unit(&mut rng)));
        }
        states
    }

    /// The distribution of the state at `place` given all others.
    fn given_others(&self, states: &[usize], place: usize) -> Vec<f64> {
        let before = |x: usize| place.checked_sub(1).map_or(1.0, |left| self.transitions[states[left]][x]);
        let behind = |x: usize| states.get(place + 1).map_or(1.0, |&right| self.transitions[x][right]);
        normalized((0..STATES).map(|x| before(x) * behind(x)).collect())
    }
}

fn normalized(weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

fn draw(distribution: &[f64], uniform: f64) -> usize {
    let mut below = 0.0;
    let found = distribution.iter().position(|share| {
        below += share;
        uniform < below
    });
    found.unwrap_or(distribution.len() - 1)
}

#[test]
fn scores_converge_to_the_analytic_entropies() -> Result<()> {
    let (folder, chain) = (tempfile::tempdir()?, Chain::new());
    let path = |name: &str| folder.path().join(name);
    write_tokens(&path("tokens"), &chain)?;
    fs_err::write(path("student.toml"), STUDENT)?;
    let epochs = format!("epochs={EPOCHS}");
    let tokens = ["--tokens", "tokens"];
    stage(
        folder.path(),
        "select",
        &[&tokens[..], &["--out", "masks", "--set", "rate=0.2", "--set", &epochs]].concat(),
    )?;
    let train = ["--student", "student.toml", "--masks", "masks", "--out", "model", "--set", &epochs];
    let sets = ["--set", "batch_size=128", "--set", "lr=8e-3", "--set", "run.checkpoint_every=100000"];
    stage(folder.path(), "pretrain", &[&tokens[..], &train, &sets].concat())?;
    let score = ["--model", "model", "--set", "conditioning=mask-each"];
    let rows = format!("rows={SCORED}");
    stage(folder.path(), "score", &[&tokens[..], &score, &["--out", "entropy", "--set", &rows]].concat())?;

    let found = compare(&path("entropy"), &path("tokens"), &chain)?;
    assert!(found.tokens == SCORED * LENGTH, "{found:?}");
    // Found when this was written: 0.034, 0.001, -0.003. The mean alone would be off by about the spread, 0.31.
    assert!(found.entropy_error < 0.06, "{found:?}");
    assert!(found.bias.abs() < 0.03, "{found:?}");
    assert!(found.divergence.abs() < 0.02, "{found:?}");
    assert!(found.spread > 0.25, "the entropies differ: {found:?}");
    Ok(())
}

/// Scored against analytic values, in nats.
#[derive(Debug)]
struct Found {
    tokens: usize,
    /// Mean absolute difference of the entropies.
    entropy_error: f64,
    /// Difference of the mean entropies.
    bias: f64,
    /// Difference of the mean surprisals: an estimate of the model's divergence from the chain.
    divergence: f64,
    /// Standard deviation of the analytic entropies.
    spread: f64,
}

fn compare(entropy: &Path, tokens: &Path, chain: &Chain) -> Result<Found> {
    let tokens = Tokens::read(&part(tokens, Kind::Tokens)?, TokenColumns::default())?;
    let scores = Entropies::read(&part(entropy, Kind::Entropy)?)?;
    let mut pairs = Vec::new();
    let mut divergence = 0.0;
    for (ids, (entropies, surprisals)) in
        tokens.input_ids.iter().zip(scores.entropy.iter().zip(scores.surprisal.iter())).take(SCORED)
    {
        let states: Vec<usize> = ids[1..=LENGTH].iter().map(|&id| (id - FIRST) as usize).collect();
        for place in 0..LENGTH {
            let q = chain.given_others(&states, place);
            let exact: f64 = q.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
            let score = |column: &[Option<f32>]| f64::from(column[place + 1].expect("was scored"));
            pairs.push((score(entropies), exact));
            divergence += score(surprisals) + q[states[place]].ln();
        }
    }
    let n = pairs.len() as f64;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / n;
    let center = mean(&|pair| pair.1);
    Ok(Found {
        tokens: pairs.len(),
        entropy_error: mean(&|pair| (pair.0 - pair.1).abs()),
        bias: mean(&|pair| pair.0 - pair.1),
        divergence: divergence / n,
        spread: mean(&|pair| (pair.1 - center).powi(2)).sqrt(),
    })
}

fn part(dir: &Path, kind: Kind) -> Result<PathBuf> {
    let manifest = Manifest::load(dir, kind)?;
    Ok(dir.join(&manifest.parts("part").next().expect("a part").file))
}

const STUDENT: &str = "hidden_size = 32\nnum_hidden_layers = 1\nnum_attention_heads = 4\nintermediate_size = 48\n\
                       max_position_embeddings = 16\nhidden_dropout_prob = 0.0\nattention_probs_dropout_prob = 0.0\n";

fn stage(folder: &Path, name: &str, arguments: &[&str]) -> Result<()> {
    let test = std::env::current_exe()?;
    let binaries = test.parent().and_then(Path::parent).expect("tests lie in <profile>/deps");
    let binary = binaries.join(format!("entromask-{name}"));
    let output = Command::new(&binary).current_dir(folder).arg("-q").args(arguments).output()?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn write_tokens(dir: &Path, chain: &Chain) -> Result<()> {
    let recipe = Recipe { kind: Kind::Tokens, config: json!({"seq_len": LENGTH + 2}), inputs: vec![] };
    let bench = Workbench::open(dir, recipe, tool("markov", "0", &[]))?;
    let mut outputs = Vec::new();
    for (prefix, rows) in [("part", 0..ROWS), ("valid", ROWS..ROWS + 200)] {
        let name = bench.part_name(prefix, 0);
        let table = table(chain, rows.clone());
        bench.write(&name, |path| table.write(path, &bench.footer()))?;
        outputs.push(OutputSpec::part(name, rows.len() as u64));
    }
    bench.write_bytes("tokenizer.json", tokenizer().to_string().as_bytes())?;
    outputs.push(OutputSpec::file("tokenizer.json"));
    let special = json!({"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4});
    let stats = json!({"rows": ROWS, "tokens": ROWS * (LENGTH + 2), "maskable": ROWS * LENGTH,
        "vocab_size": STATES + FIRST as usize, "special": special});
    bench.publish(outputs, stats, Cost::default()).map(drop)
}

fn table(chain: &Chain, rows: std::ops::Range<usize>) -> Tokens {
    let mut tokens = Tokens::default();
    for row in rows.clone() {
        let states = chain.sample(row as u64);
        let ids: Vec<u32> = states.iter().map(|&state| FIRST + state as u32).collect();
        tokens.row.push((row - rows.start) as u64);
        tokens.doc.push((row - rows.start) as u64);
        tokens.text.push(String::new());
        tokens.word.push((0..LENGTH + 2).map(|i| (1..=LENGTH).contains(&i).then_some(i as u16)));
        tokens.begin.push([0; LENGTH + 2]);
        tokens.end.push([0; LENGTH + 2]);
        tokens.input_ids.push([2].into_iter().chain(ids).chain([3]));
    }
    tokens
}

fn tokenizer() -> Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let name = |id: usize| special.get(id).map_or_else(|| format!("s{id}"), ToString::to_string);
    let vocabulary: Value = (0..STATES + FIRST as usize).map(|id| (name(id), json!(id))).collect();
    let added = |id: usize| {
        json!({"id": id, "content": name(id), "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false})
    };
    json!({"version": "1.0", "added_tokens": (0..special.len()).map(added).collect::<Vec<_>>(),
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}})
}
