//! The graph as SVG: boxes in layers, each box below all it needs.

use super::graph::{Graph, fill};
use std::fmt::Write;

const WIDTH: usize = 190; // of a box, pixels
const HEIGHT: usize = 46;
const GAP_X: usize = 30;
const GAP_Y: usize = 44;
const MARGIN: usize = 20;

pub(super) fn draw(graph: &Graph) -> String {
    let layers = layers(graph);
    let widest = layers.iter().map(Vec::len).max().unwrap_or(0);
    let width = 2 * MARGIN + widest * (WIDTH + GAP_X);
    let height = 2 * MARGIN + layers.len() * (HEIGHT + GAP_Y);
    let mut place = vec![(0, 0); graph.boxes.len()];
    for (row, layer) in layers.iter().enumerate() {
        let indent = (widest - layer.len()) * (WIDTH + GAP_X) / 2;
        for (column, &node) in layer.iter().enumerate() {
            place[node] = (MARGIN + indent + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y));
        }
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#5c6673\"/></marker></defs>\n"
    );
    for (from, to, port) in &graph.arrows {
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
    for (node, (x, y)) in graph.boxes.iter().zip(&place) {
        let dash = if node.verdict.is_none() { " stroke-dasharray=\"4 3\"" } else { "" };
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"{}\" stroke=\"#5c6673\"{dash}/>\
             <text x=\"{tx}\" y=\"{ty}\" text-anchor=\"middle\" fill=\"#1d242c\">{}</text>\
             <text x=\"{tx}\" y=\"{tk}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#5c6673\">{}</text>",
            fill(node.verdict),
            escape(&shortened(&node.name)),
            escape(&node.kind),
            tx = x + WIDTH / 2,
            ty = y + 20,
            tk = y + 36,
        );
    }
    svg + "</svg>\n"
}

/// Each box one layer below the lowest of those it needs.
fn layers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut depth = vec![0_usize; graph.boxes.len()];
    // A plan has no cycles, so the longest path has fewer arrows than there are boxes.
    for _ in 0..graph.boxes.len() {
        let mut changed = false;
        for &(from, to, _) in &graph.arrows {
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

fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= 26 { name.to_owned() } else { format!("…{}", name.chars().skip(length - 25).collect::<String>()) }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
