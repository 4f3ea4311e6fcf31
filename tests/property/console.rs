//! The console: no event, size or mesh breaks it, and the cursor stays on a line.

use std::sync::{Arc, OnceLock};

use mesh::model::view::MeshView;
use mesh::top::canvas::Scene;
use mesh::top::event::{Event, Key};
use mesh::top::filter::{Facts, Filter};
use mesh::top::format::wrap;
use mesh::top::keys::KEYS;
use mesh::top::layout::layered;
use mesh::top::state::State;
use mesh::top::terminal::offscreen;
use mesh::top::theme::{Depth, Theme};
use mesh::top::update::update;
use mesh::top::view;
use proptest::prelude::*;

use crate::shop;

fn meshes() -> &'static [Arc<MeshView>] {
    static MESHES: OnceLock<Vec<Arc<MeshView>>> = OnceLock::new();
    MESHES.get_or_init(|| {
        let mut all: Vec<MeshView> = [0, 1, 199, 215, 230, 300, 1200].into_iter().map(shop::mesh).collect();
        all.push(MeshView { services: Vec::new(), ..shop::mesh(301) });
        all.push(MeshView { edges: Vec::new(), nodes: Vec::new(), ..shop::mesh(302) });
        all.push(MeshView {
            window_seconds: 0, mesh: "a\u{200b}名\u{1b}[31m".to_owned(), ..shop::mesh(303)
        });
        all.into_iter().map(Arc::new).collect()
    })
}

fn key() -> impl Strategy<Value = Key> {
    let bound: Vec<Key> = KEYS.iter().flat_map(|binding| binding.keys).copied().collect();
    prop_oneof![
        6 => proptest::sample::select(bound),
        1 => any::<char>().prop_map(Key::Char),
        1 => Just(Key::Backspace),
        2 => Just(Key::Enter),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => key().prop_map(Event::Key),
        1 => any::<i8>().prop_map(Event::Wheel),
        1 => (0..200_u16, 0..4_u16).prop_map(|(x, y)| Event::Click(x, y)),
        1 => (1..=200_u16, 1..=80_u16).prop_map(|(x, y)| Event::Resize(x, y)),
        3 => (0..meshes().len()).prop_map(|index| Event::View(Arc::clone(&meshes()[index]))),
        1 => (0..60_000_u64).prop_map(|ms| Event::Lost { reason: "gone".to_owned(), retry_in_ms: ms }),
        1 => (0..9_u32).prop_map(|attempt| Event::Dialing { attempt }),
        1 => Just(Event::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn wrapping_keeps_every_letter_and_the_width(text in "[a-z→é]{1,12}( {1,2}[a-z]{1,30}){0,8}", width in 1_usize..40) {
        let lines = wrap(&text, width);

        prop_assert!(lines.iter().all(|line| (1..=width).contains(&line.chars().count())), "{lines:?}");
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        prop_assert_eq!(letters(&lines.concat()), letters(&text));
    }

    #[test]
    fn no_event_breaks_the_console_and_every_cell_is_one_wide(
        events in proptest::collection::vec((event(), 0..20_000_u64), 1..40),
        (columns, rows) in (1..=200_u16, 1..=80_u16),
        ascii in any::<bool>(),
    ) {
        let theme = Theme::named("dark", Depth::True, ascii).unwrap();
        let mut state = State::new((columns, rows), theme, "nowhere".to_owned(), 3600);
        let mut now = 0;

        for (event, later) in events {
            now += later;
            update(&mut state, now, event);

            if let Some(scene) = Scene::of(&state) {
                let lines = view::lines(&scene);
                match view::selected(&scene) {
                    Some((line, target)) => prop_assert_eq!(lines.get(line), Some(&target)),
                    None => prop_assert!(lines.is_empty()),
                }
            }
        }
        let frame = offscreen(&state, columns, rows);

        for cell in &frame.content {
            let mut characters = cell.symbol().chars();
            let only = characters.next();
            prop_assert!(only.is_some_and(|c| !c.is_control()) && characters.next().is_none(), "{:?}", cell.symbol());
            prop_assert!(!ascii || cell.symbol().is_ascii());
        }
        prop_assert!(state.back.len() <= 64 && state.cursors.len() <= 256);
    }

    #[test]
    fn any_text_is_a_filter_or_is_refused(text in ".{0,40}") {
        if let Ok(filter) = Filter::parse(&text) {
            filter.admits(&Facts::default());
        }
    }

    #[test]
    fn a_negated_term_admits_what_the_term_does_not(
        word in "[a-z]{1,4}",
        name in "[a-z]{1,6}",
        rps in 0.0..2000.0_f64,
        limit in 0..2000_u32,
    ) {
        let facts = Facts { services: vec![name], rps: Some(rps), ..Facts::default() };

        for term in [word.clone(), format!("svc:{word}*"), format!("rps>{limit}")] {
            let plain = Filter::parse(&term).unwrap();
            let negated = Filter::parse(&format!("-{term}")).unwrap();
            prop_assert_ne!(plain.admits(&facts), negated.admits(&facts));
        }
    }

    #[test]
    fn a_drawn_graph_keeps_its_edges_apart_and_in_order(
        nodes in 1..24_usize,
        pairs in proptest::collection::vec((0..24_usize, 0..24_usize), 0..50),
        height in 1..60_usize,
    ) {
        let edges: Vec<(usize, usize)> = pairs.into_iter().map(|(a, b)| (a % nodes, b % nodes)).collect();

        let first = layered(nodes, &edges, height);

        prop_assert_eq!(&first, &layered(nodes, &edges, height));
        let Some(layout) = first else { return Ok(()) };
        let mut taken: Vec<(usize, usize)> = layout.places.iter().flatten().copied().collect();
        taken.sort_unstable();
        let before = taken.len();
        taken.dedup();
        prop_assert_eq!(taken.len(), before, "two nodes share a place");
        prop_assert!(taken.iter().all(|(rank, row)| *rank < layout.ranks && *row < layout.height));
        prop_assert!(layout.height <= height.max(1));
        for (index, (source, target)) in edges.iter().enumerate() {
            let path = &layout.paths[index];
            if layout.back.contains(&index) {
                prop_assert!(path.is_empty());
                continue;
            }
            let (from, to) = (layout.places[*source].unwrap(), layout.places[*target].unwrap());
            prop_assert!(from.0 < to.0);
            prop_assert_eq!(path.len(), to.0 - from.0);
            prop_assert_eq!(path.first().map(|hop| hop.from), Some(from.1));
            prop_assert_eq!(path.last().map(|hop| hop.to), Some(to.1));
            for (one, next) in path.iter().zip(path.iter().skip(1)) {
                prop_assert_eq!(one.to, next.from);
                prop_assert_eq!(one.channel + 1, next.channel);
            }
            for hop in path {
                prop_assert_eq!(hop.track.is_none(), hop.from == hop.to && hop.track.is_none());
                prop_assert!(hop.from == hop.to || hop.track.is_some_and(|track| track < layout.tracks[hop.channel]));
            }
        }
    }
}
