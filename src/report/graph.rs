//! A graph of stages as SVG: boxes in layers, each box below all it needs.

use super::html::escape;
use std::collections::BTreeSet;
use std::fmt::Write;

const WIDTH: usize = 216; // of a box, pixels
const HEIGHT: usize = 46;
const GAP_X: usize = 30;
const GAP_Y: usize = 44;
const MARGIN: usize = 20;

/// Boxes and arrows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    pub boxes: Vec<Node>,
    /// Indices of boxes, with the ports that flow.
    pub arrows: BTreeSet<(usize, usize, String)>,
}

/// A stage or a file of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// The small line below the name.
    pub about: String,
    pub state: State,
}

/// What would become, or became, of a box's stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Hit,
    Ran,
    /// Not begun: it waits, or was skipped.
    Waits,
    Failed,
    /// No stage, a file.
    File,
}

impl State {
    /// The colour of a box; dark text reads well on each.
    pub fn fill(self) -> &'static str {
        match self {
            Self::Hit => "#d9f2e0",
            Self::Ran => "#fdeccb",
            Self::Waits => "#eef0f3",
            Self::Failed => "#fbd9d5",
            Self::File => "#ffffff",
        }
    }
}

impl Graph {
    /// The box of a file, made where it is not there yet.
    pub fn file(&mut self, name: &str) -> usize {
        let there = self.boxes.iter().position(|b| b.state == State::File && b.name == name);
        there.unwrap_or_else(|| {
            self.boxes.push(Node { name: name.to_owned(), about: "file".to_owned(), state: State::File });
            self.boxes.len() - 1
        })
    }

    /// The drawing as a file of its own.
    pub fn svg(&self) -> String {
        self.drawn(" xmlns=\"http://www.w3.org/2000/svg\"")
    }

    /// The drawing as a part of a page.
    pub fn inline(&self) -> String {
        self.drawn("")
    }

    fn drawn(&self, namespace: &str) -> String {
        let layers = self.layers();
        let widest = layers.iter().map(Vec::len).max().unwrap_or(0);
        let width = 2 * MARGIN + widest * (WIDTH + GAP_X);
        let height = 2 * MARGIN + layers.len() * (HEIGHT + GAP_Y);
        let mut place = vec![(0, 0); self.boxes.len()];
        for (row, layer) in layers.iter().enumerate() {
            let indent = (widest - layer.len()) * (WIDTH + GAP_X) / 2;
            for (column, &node) in layer.iter().enumerate() {
                place[node] = (MARGIN + indent + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y));
            }
        }
        let mut svg = format!(
            "<svg{namespace} role=\"img\" aria-label=\"graph of stages\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" \
             markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#5c6673\"/></marker></defs>\n"
        );
        for (from, to, port) in &self.arrows {
            let (x1, y1) = (place[*from].0 + WIDTH / 2, place[*from].1 + HEIGHT);
            let (x2, y2) = (place[*to].0 + WIDTH / 2, place[*to].1);
            let bend = GAP_Y * 2 / 3;
            let _ = writeln!(
                svg,
                "<path d=\"M{x1} {y1} C{x1} {} {x2} {} {x2} {y2}\" fill=\"none\" stroke=\"#5c6673\" marker-end=\"url(#tip)\"><title>{}</title></path>",
                y1 + bend,
                y2 - bend,
                escape(port)
            );
        }
        for (node, (x, y)) in self.boxes.iter().zip(&place) {
            let dash = if node.state == State::File { " stroke-dasharray=\"4 3\"" } else { "" };
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"{}\" stroke=\"#5c6673\"{dash}/>\
                 <text x=\"{tx}\" y=\"{ty}\" text-anchor=\"middle\" fill=\"#1d242c\">{}</text>\
                 <text x=\"{tx}\" y=\"{tk}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#5c6673\">{}</text>",
                node.state.fill(),
                escape(&shortened(&node.name)),
                escape(&node.about),
                tx = x + WIDTH / 2,
                ty = y + 20,
                tk = y + 36,
            );
        }
        svg + "</svg>\n"
    }

    /// Each box one layer below the lowest of those it needs.
    fn layers(&self) -> Vec<Vec<usize>> {
        let mut depth = vec![0_usize; self.boxes.len()];
        // A plan has no cycles, so the longest path has fewer arrows than there are boxes.
        for _ in 0..self.boxes.len() {
            let mut changed = false;
            for &(from, to, _) in &self.arrows {
                if depth[to] < depth[from] + 1 {
                    depth[to] = depth[from] + 1;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        let mut layers = vec![Vec::new(); depth.iter().max().map_or(0, |d| d + 1)];
        for (node, &d) in depth.iter().enumerate() {
            layers[d].push(node);
        }
        layers
    }
}

fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= 26 { name.to_owned() } else { format!("…{}", name.chars().skip(length - 25).collect::<String>()) }
}
