//! A strip below inferno's picture, for what inferno has no place for: legends and remarks.
//!
//! In: SVG as inferno writes it. Out: the same, higher by the strip, with our elements in it.

/// Thin lines between neighbours of one shade, and a search button that can be seen.
const STYLE: &str =
    "#frames > g:not(:hover) > rect { stroke:white; stroke-width:0.4; } #search { opacity:0.6; }";

/// `svg`, made higher by `strip_height` pixels; `draw` is given the strip's upper edge and gives what stands there.
pub(super) fn with_strip(
    svg: &str,
    strip_height: usize,
    draw: impl FnOnce(usize) -> String,
) -> String {
    let Some((height, body)) = image_height(svg).zip(svg.strip_suffix("</svg>")) else {
        return svg.to_owned();
    };
    let higher = height + strip_height;
    let of_image = |height| format!("height=\"{height}\"");
    let of_view = |height| format!(" {height}\" xmlns");
    let of_background = |height| format!("height=\"{height}\" fill=\"url(#background)\"");
    let body = body
        .replacen(&of_image(height), &of_image(higher), 1)
        .replacen(&of_view(height), &of_view(higher), 1)
        .replacen(&of_background(height), &of_background(higher), 1);
    let strip = draw(height);
    format!("{body}<style>{STYLE}</style><g id=\"legend\">{strip}</g></svg>")
}

/// From the header `<svg … height="N" …>`.
fn image_height(svg: &str) -> Option<usize> {
    let (_, rest) = svg.split_once(" height=\"")?;
    rest.split_once('"')?.0.parse().ok()
}
