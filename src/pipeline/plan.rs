//! From the shape of a file to a plan: what is left out, what reads what, in which order, in how many branches.

use super::diagnostics::Diagnostics;
use super::graph::{self, Needs};
use super::growth::{Growth, size_of};
use super::matrix::{self, Axis, Branch, MOST_BRANCHES, MOST_STEPS, Matrix};
use super::nearest::suggestion;
use super::node::{Content, Entry, Node};
use super::params::Params;
use super::publish::{self, branch_names};
use super::spec::{PipelineSpec, StageSpec};
use super::wiring::{Catalog, From, Listed, Wire, connect};
use super::{Source, Step, command, kinds, resources, sniff};
use crate::artifact::Format;
use crate::device::Device;
use crate::name::{PortName, StageName};
use crate::site::Executor;
use crate::stage::Contract;
use crate::stages::StageKind;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The steps that each stage of the file became.
pub type Branches = BTreeMap<String, Vec<StageName>>;

/// Steps in order, and what is published.
pub struct Built {
    pub steps: Vec<Step>,
    pub publish: publish::Published,
}

/// A stage of the file with its references resolved, its branches not yet made.
struct Stage<'s> {
    spec: &'s StageSpec,
    uses: &'static str,
    contract: Contract,
    wires: Vec<Wire>,
    with: Node,
    resources: Option<Node>,
    executor: Option<Node>,
    matrix: Matrix,
}

/// Makes the steps of a pipeline, `look` having looked at its files; what is wrong is in `problems`.
pub fn build(
    spec: &PipelineSpec,
    params: &Params,
    to: Option<&str>,
    look: sniff::Look,
    problems: &mut Diagnostics<'_>,
) -> Built {
    let catalog = catalog(spec, params, problems);
    let mut stages: BTreeMap<&str, Stage<'_>> = BTreeMap::new();
    for stage in spec.stages.iter().filter(|stage| catalog.stages.get(&stage.name).is_some_and(|listed| listed.present))
    {
        if let Some(resolved) = resolve(stage, params, &catalog, problems) {
            stages.insert(&stage.name, resolved);
        }
    }
    let needs: Needs<'_> = stages.iter().map(|(&name, stage)| (name, makers(&stage.wires).collect())).collect();
    let (order, cycles) = graph::order(&needs);
    for cycle in &cycles {
        report_cycle(cycle, &stages, problems);
    }
    let mut expansion = Expansion {
        catalog: &catalog,
        params,
        axes: Vec::new(),
        over: BTreeMap::new(),
        branches: Branches::new(),
        named: BTreeSet::new(),
        steps: Vec::new(),
        first: BTreeMap::new(),
        growth: Growth::default(),
        is_full: false,
    };
    for name in &order {
        expansion.stage(&stages[name], problems);
    }
    let Expansion { mut steps, branches, .. } = expansion;
    let kept = to.and_then(|to| ancestors(to, &steps, spec, problems));
    let is_kept = |name: &str| kept.as_ref().is_none_or(|kept| kept.contains(name));
    let mut good = BTreeSet::new();
    for (name, stage) in &stages {
        // A stage that did not become steps has problems already; a missing file may be one more.
        if branches.get(*name).is_none_or(|names| names.iter().any(|name| is_kept(name.as_str()))) {
            check_paths(stage, &catalog, look, &mut good, problems);
        }
    }
    steps.retain(|step| is_kept(step.name.as_str()));
    let entries: Vec<Entry> = spec
        .publish
        .iter()
        .map(|entry| Entry { value: params.fill(&entry.value, problems), ..entry.clone() })
        .collect();
    let paths = stages.values().flat_map(|stage| &stage.wires).filter_map(|wire| match &wire.from {
        From::Path(path) => Some(path.as_str()),
        From::Output { .. } => None,
    });
    let mut publish = publish::read(&entries, &catalog, &branches, &paths.collect::<Vec<_>>(), problems);
    publish.retain(|_, (name, _)| is_kept(name.as_str()));
    Built { steps, publish }
}

/// Lists every stage with its outputs, and whether `when` keeps it.
fn catalog(spec: &PipelineSpec, params: &Params, problems: &mut Diagnostics<'_>) -> Catalog {
    let mut catalog = Catalog::default();
    for stage in &spec.stages {
        let present = stage.when.as_ref().is_none_or(|when| {
            let value = params.fill(when, problems);
            match value.content {
                Content::Scalar(Value::Bool(present)) => present,
                Content::Invalid => true,
                _ => {
                    let found = value.describe();
                    problems.at(when.span, format!("`when` has to be true or false, not {found}"));
                    true
                }
            }
        });
        let outputs = stage.uses.and_then(|uses| {
            if uses == "command" {
                let out = stage.out.as_ref()?;
                return Some(out.iter().map(|(port, declared)| (port.clone(), declared.format)).collect());
            }
            Some(contract(uses).outputs.into_iter().collect())
        });
        catalog.stages.insert(stage.name.clone(), Listed { outputs, present });
    }
    catalog
}

/// Reads `executor:`; nothing where it is left to the run.
fn executor(node: &Node, problems: &mut Diagnostics<'_>) -> Option<Executor> {
    match (node.text(), &node.content) {
        (Some("local"), _) => Some(Executor::Local),
        (Some("slurm"), _) => Some(Executor::Slurm),
        (_, Content::Invalid | Content::Scalar(Value::Null)) => None,
        _ => {
            let found = node.describe();
            problems
                .at(node.span, format!("`executor` is `local` or `slurm`, not {found}"))
                .help("without it the stage runs where `--executor` says");
            None
        }
    }
}

fn contract(uses: &'static str) -> Contract {
    StageKind::contract(uses).expect("`uses` is a name of the catalogue: checked when the file was read")
}

fn resolve<'s>(
    spec: &'s StageSpec,
    params: &Params,
    catalog: &Catalog,
    problems: &mut Diagnostics<'_>,
) -> Option<Stage<'s>> {
    let inputs = params.fill(&spec.inputs, problems);
    let mut with = if spec.uses == Some("command") {
        command::fill(&spec.with, params, problems)
    } else {
        params.fill(&spec.with, problems)
    };
    if let Some(ranks) = &spec.ranks
        && (with.is_null() || matches!(with.content, Content::Map(_)))
    {
        // The number of ranks decides bytes: to the stage it is a parameter like others.
        matrix::set(&mut with, "ranks", ranks.key_span, &params.fill(&ranks.value, problems));
    }
    let matrix = matrix::read(&spec.name, &params.fill(&spec.matrix, problems), problems);
    let resources = spec.resources.as_ref().map(|node| params.fill(node, problems));
    let executor = spec.executor.as_ref().map(|node| params.fill(node, problems));
    let uses = spec.uses?;
    let contract = contract(uses);
    let wires = connect(spec, uses, &contract, &inputs, catalog, problems)?;
    Some(Stage { spec, uses, contract, wires, with, resources, executor, matrix })
}

fn makers(wires: &[Wire]) -> impl Iterator<Item = &str> {
    wires.iter().filter_map(|wire| match &wire.from {
        From::Output { stage, .. } => Some(stage.as_str()),
        From::Path(_) => None,
    })
}

fn report_cycle(cycle: &[&str], stages: &BTreeMap<&str, Stage<'_>>, problems: &mut Diagnostics<'_>) {
    let reader = &stages[cycle[1]];
    let wire = reader.wires.iter().find(|wire| matches!(&wire.from, From::Output { stage, .. } if stage == cycle[0]));
    let span = wire.map_or(reader.spec.span, |wire| wire.span);
    if cycle.len() == 2 {
        problems
            .at(span, format!("the stage `{}` waits for its own output", cycle[0]))
            .help("let it read the output of another stage");
    } else {
        problems
            .at(span, format!("these stages wait for each other: {}", cycle.join(" -> ")))
            .help("let one of them read something else");
    }
}

/// The names of the steps that a stage, all of its branches or one, is made from; its own among them.
fn ancestors(
    to: &str,
    steps: &[Step],
    spec: &PipelineSpec,
    problems: &mut Diagnostics<'_>,
) -> Option<BTreeSet<String>> {
    let wanted: Vec<&str> = steps
        .iter()
        .map(|step| &step.name)
        .filter(|name| name.as_str() == to || name.base() == to)
        .map(StageName::as_str)
        .collect();
    if wanted.is_empty() {
        // A stage that could not become a step has problems of its own.
        if spec.stages.iter().any(|stage| stage.name == to) {
            if problems.is_empty() {
                problems.option("--to", format!("the stage `{to}` is left out by its `when`"));
            }
        } else {
            let names =
                steps.iter().map(|step| step.name.as_str()).chain(spec.stages.iter().map(|stage| stage.name.as_str()));
            let names: BTreeSet<&str> = names.collect();
            problems.option("--to", format!("there is no stage `{to}`")).help(suggestion(
                to,
                names.iter().copied(),
                "stages",
            ));
        }
        return None;
    }
    let needs: Needs<'_> = steps
        .iter()
        .map(|step| {
            let makers = step.inputs.values().filter_map(|source| match source {
                Source::Step { step, .. } => Some(step.as_str()),
                Source::Path { .. } => None,
            });
            (step.name.as_str(), makers.collect())
        })
        .collect();
    Some(wanted.iter().flat_map(|name| graph::ancestors(name, &needs)).map(str::to_owned).collect())
}

/// Checks that the files exist and hold what their ports take; `good` are those that were seen to.
fn check_paths<'a>(
    stage: &'a Stage<'_>,
    catalog: &Catalog,
    look: sniff::Look,
    good: &mut BTreeSet<(&'a str, Format)>,
    problems: &mut Diagnostics<'_>,
) {
    for wire in &stage.wires {
        let From::Path(path) = &wire.from else { continue };
        if good.contains(&(path.as_str(), wire.wanted)) {
            continue;
        }
        if let Err((message, help)) = look(path, wire.wanted) {
            // Of many, the last ones are only counted.
            let near = (problems.count() < 100)
                .then(|| catalog.near(path))
                .flatten()
                .map(|near| format!("did you mean `{near}`?"));
            let hint = stage.spec.hint.clone();
            let pattern = path.contains('*').then(|| {
                "patterns are not expanded: name the folder that holds the files, or each file as an input".to_owned()
            });
            let usual =
                "a path is relative to the working directory; an output of a stage is written STAGE.PORT".to_owned();
            problems.at(wire.span, message).help(pattern.or(help).or(near).or(hint).unwrap_or(usual));
        } else {
            good.insert((path, wire.wanted));
        }
    }
}

/// Checks the parameters of a stage that has no branches because of wrong keys in its matrix.
fn check_but_for(wrong: &[String], stage: &Stage<'_>, problems: &mut Diagnostics<'_>) {
    if stage.uses == "command" {
        return;
    }
    let mut with = stage.with.clone();
    for axis in &stage.matrix.axes {
        matrix::set(&mut with, &axis.key, axis.key_span, &axis.choices[0].1);
    }
    let connected: Vec<&str> = stage.wires.iter().map(|wire| wire.port.as_str()).collect();
    if let Some(params) = kinds::params_of(&with, problems) {
        kinds::make(stage.spec, stage.uses, &with, &params, &connected, wrong, problems);
    }
}

/// The growing list of steps.
struct Expansion<'a> {
    catalog: &'a Catalog,
    params: &'a Params,
    axes: Vec<Axis>,
    /// The axes that each stage varies over, its own and those of what it reads.
    over: BTreeMap<String, BTreeSet<usize>>,
    branches: Branches,
    /// The names of all branches.
    named: BTreeSet<StageName>,
    steps: Vec<Step>,
    /// Where the first step of each stage is.
    first: BTreeMap<String, usize>,
    /// What all steps take.
    growth: Growth,
    is_full: bool,
}

impl Expansion<'_> {
    /// Adds a step for each branch of a stage, whose makers have been added before.
    fn stage(&mut self, stage: &Stage<'_>, problems: &mut Diagnostics<'_>) {
        let name = &stage.spec.name;
        let mut over: BTreeSet<usize> = BTreeSet::new();
        if !stage.contract.gathers {
            for wire in &stage.wires {
                if let From::Output { stage, branch: None, .. } = &wire.from {
                    over.extend(self.over.get(stage).into_iter().flatten());
                }
            }
        }
        let Matrix { axes, wrong } = &stage.matrix;
        if !wrong.is_empty() {
            // No branches, so that what reads them is not told as a further problem.
            return check_but_for(wrong, stage, problems);
        }
        if stage.uses == "command" {
            command::refuse_unused(stage.spec, axes, self.params, problems);
        }
        over.extend(self.axes.len()..self.axes.len() + axes.len());
        self.axes.extend(axes.iter().cloned());
        let Some(branches) = matrix::branches(&over, &self.axes) else {
            let message =
                format!("the stage `{name}` has more than {MOST_BRANCHES} branches, or more keys than a name holds");
            problems.at(stage.spec.span, message);
            return;
        };
        if self.steps.len() + branches.len() > MOST_STEPS {
            problems.at(stage.spec.span, format!("with the stage `{name}` the plan has more than {MOST_STEPS} steps"));
            return;
        }
        self.over.insert(name.clone(), over);
        for branch in &branches {
            let full =
                matrix::label(branch, &self.axes).map_or_else(|| name.clone(), |label| format!("{name}@{label}"));
            let Ok(full) = StageName::parse(&full) else {
                // A name that is wrong by itself has been reported where it stands.
                if !branch.is_empty() && StageName::parse(name).is_ok() {
                    problems
                        .at(stage.spec.span, format!("the name of the branch {full:?} is too long"))
                        .help("use fewer keys or shorter values in the matrix");
                }
                return;
            };
            self.named.insert(full.clone());
            self.branches.entry(name.clone()).or_default().push(full.clone());
            if self.step(stage, branch, full, problems).is_none() && self.is_full {
                return;
            }
        }
    }

    /// Adds one step; `None` where it can't be, which has been reported.
    fn step(
        &mut self,
        stage: &Stage<'_>,
        branch: &Branch,
        name: StageName,
        problems: &mut Diagnostics<'_>,
    ) -> Option<()> {
        let Stage { spec, uses, .. } = stage;
        let (inputs, endings) = self.inputs(stage, branch, problems);
        let mut with = stage.with.clone();
        // Those of the pipeline, but for what a command's matrix varies.
        let mut own = Cow::Borrowed(self.params);
        for (&axis, &choice) in branch {
            let Axis { stage, key, key_span, choices } = &self.axes[axis];
            let value = &choices[choice].1;
            if *stage != spec.name {
                continue;
            }
            if *uses == "command" && self.params.0.contains_key(key) && !command::KEYS.contains(&key.as_str()) {
                command::refuse_in_inputs(&spec.inputs, key, problems);
                own.to_mut().0.insert(key.clone(), value.to_value());
            } else {
                matrix::set(&mut with, key, *key_span, value);
            }
        }
        if let Cow::Owned(own) = &own {
            with = command::fill(&spec.with, own, problems);
        }
        let mut params = kinds::params_of(&with, problems)?;
        let connected: Vec<&str> = stage.wires.iter().map(|wire| wire.port.as_str()).collect();
        if *uses == "command" {
            let given: BTreeSet<&str> =
                spec.inputs.entries().iter().map(|entry| entry.key.as_str()).chain(connected.iter().copied()).collect();
            params = command::complete(spec, &with, &given, endings, &own, problems)?;
        }
        let texts = inputs.iter().map(|(port, source)| port.as_str().len() + source.size());
        let size = texts.sum::<usize>()
            + params.values().map(size_of).sum::<usize>()
            + spec.hint.as_ref().map_or(0, String::len);
        if let Err((message, help)) = self.growth.add(size) {
            if !std::mem::replace(&mut self.is_full, true) {
                problems.at(spec.span, message).help = help;
            }
            return None;
        }
        let kind = kinds::make(spec, uses, &with, &params, &connected, &[], problems)?;
        let needs = kind.stage().needs();
        let resources = stage.resources.as_ref().map_or(needs, |node| resources::read(node, needs, problems));
        let executor = stage.executor.as_ref().and_then(|node| executor(node, problems));
        // A name that is wrong has been reported where the command declares it.
        let contract = kind.stage().contract();
        let device = contract.device.then(Device::default);
        let outputs = contract.outputs.into_iter();
        let outputs = outputs.filter_map(|(port, format)| Some((PortName::parse(&port).ok()?, format))).collect();
        self.first.entry(spec.name.clone()).or_insert(self.steps.len());
        self.steps.push(Step {
            name,
            kind,
            inputs,
            outputs,
            resources,
            executor,
            device,
            position: spec.span.position,
            hint: spec.hint.clone(),
        });
        Some(())
    }

    /// The inputs of one branch, and the file name endings that a command sees.
    fn inputs(
        &self,
        stage: &Stage<'_>,
        branch: &Branch,
        problems: &mut Diagnostics<'_>,
    ) -> (BTreeMap<PortName, Source>, BTreeMap<String, String>) {
        let (mut inputs, mut endings) = (BTreeMap::new(), BTreeMap::new());
        for wire in &stage.wires {
            let port = |text: &str| PortName::parse(text).expect("checked when the port was connected");
            let (maker, wanted, output) = match &wire.from {
                From::Path(path) => {
                    let source =
                        Source::Path { path: PathBuf::from(path), format: wire.wanted, position: wire.span.position };
                    inputs.insert(port(&wire.port), source);
                    endings.insert(wire.port.clone(), command::ending(path).to_owned());
                    continue;
                }
                From::Output { stage, branch, port } => (stage, branch, port),
            };
            endings.insert(wire.port.clone(), self.ending(stage, maker, output));
            // Absent only where the maker has problems, or stands in a cycle with this stage.
            let Some(steps) = self.branches.get(maker) else { continue };
            let from = |step: &StageName| Source::Step { step: step.clone(), port: port(output) };
            if let Some(wanted) = wanted {
                match steps.iter().find(|step| step.branch() == Some(wanted)) {
                    Some(step) => {
                        inputs.insert(port(&wire.port), from(step));
                    }
                    None => problems
                        .at(wire.span, format!("the stage `{maker}` has no branch `{wanted}`"))
                        .help(branch_names(steps)),
                }
            } else if stage.contract.gathers {
                for step in steps {
                    let name =
                        step.branch().map_or_else(|| wire.port.clone(), |branch| format!("{}@{branch}", wire.port));
                    inputs.insert(port(&name), from(step));
                }
            } else if let Some(over) = self.over.get(maker) {
                let label = matrix::label(&matrix::project(branch, over), &self.axes);
                let full = label.map_or_else(|| maker.clone(), |label| format!("{maker}@{label}"));
                // Absent only where the branch has problems.
                if let Some(step) = self.named.get(full.as_str()) {
                    inputs.insert(port(&wire.port), from(step));
                }
            }
        }
        endings.retain(|_, ending| !ending.is_empty());
        (inputs, endings)
    }

    /// The ending that an output's file name has.
    fn ending(&self, reader: &Stage<'_>, maker: &str, port: &str) -> String {
        let format = self.catalog.format(maker, port).unwrap_or(Format::Raw);
        if reader.uses == "command" && format == Format::Raw {
            return self.first.get(maker).map_or_else(String::new, |&first| match &self.steps[first].kind {
                StageKind::Command(made) => {
                    made.out.get(port).map_or_else(String::new, |made| command::ending(&made.path).to_owned())
                }
                _ => String::new(),
            });
        }
        format.extension().to_owned()
    }
}
