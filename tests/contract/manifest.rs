//! What is said about manifests that cannot be accepted, and where.

use std::fmt::Write as _;
use std::path::Path;

use mesh::cli::manifest::files;
use mesh::cli::manifest::{self, Manifests, fault::Fault};
use proptest::prelude::*;

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: web
spec:
  parentRefs:
    - {kind: Service, group: '', name: web}
  rules:
";

fn parse(text: &str) -> Result<Manifests, Vec<Fault>> {
    manifest::parse(text, "web.yaml")
}

fn faults_of(text: &str) -> Vec<Fault> {
    parse(text).expect_err("the manifest is wrong")
}

/// The faults as `(line, column, message)`.
fn faults(text: &str) -> Vec<(usize, usize, String)> {
    faults_of(text).into_iter().map(|fault| (fault.origin.line, fault.origin.column, fault.message)).collect()
}

#[track_caller]
fn assert_fault(text: &str, line: usize, column: usize, part: &str) {
    let found = faults(text);
    let hit = found.iter().any(|(l, c, message)| (*l, *c) == (line, column) && message.contains(part));
    assert!(hit, "expected {line}:{column} with '{part}' in {found:#?}\n{text}");
}

#[test]
fn the_place_of_an_object_is_where_its_document_begins() {
    let second = ROUTE.replace("  name: web\n", "  name: api\n") + "    - {backendRefs: [{name: web}]}\n";
    let text =
        format!("# a comment\n---\n{ROUTE}    - backendRefs: [{{name: web}}]\n---\n# another\n\n{second}");

    let read = parse(&text).unwrap();

    let places: Vec<_> = read
        .objects
        .iter()
        .map(|(object, origin)| (object.metadata().name.as_str(), origin.to_string()))
        .collect();
    assert_eq!(places, [("web", "web.yaml:3:1".to_owned()), ("api", "web.yaml:15:1".to_owned())]);
}

#[test]
fn empty_documents_are_passed_over() {
    let text = format!("---\n---\n# nothing\n---\n{ROUTE}    - backendRefs: [{{name: web}}]\n---\n");

    assert_eq!(parse(&text).unwrap().objects.len(), 1);
    assert!(parse("").unwrap().objects.is_empty());
    assert!(parse("# only a comment\n").unwrap().objects.is_empty());
}

#[test]
fn an_unknown_field_is_named_at_its_line_and_column() {
    assert_fault(&format!("{ROUTE}    - backendRef: [{{name: web}}]\n"), 9, 7, "unknown field 'backendRef'");
    assert_fault(&format!("{ROUTE}    - backendRef: [{{name: web}}]\n"), 9, 7, "backendRefs");
    let in_filter = format!(
        "{ROUTE}    - filters:\n        - type: RequestHeaderModifier\n          requestHeaderModifier:\n            put: []\n"
    );
    assert_fault(&in_filter, 12, 13, "unknown field 'put': expected set, add, remove");
}

#[test]
fn fields_of_the_gateway_api_that_cannot_be_obeyed_are_told_apart_from_typing_errors() {
    let known = "known in the Gateway API, not supported yet";
    let rewrite =
        format!("{ROUTE}    - filters:\n        - type: ExternalAuth\n          externalAuth: {{}}\n");
    assert_fault(&rewrite, 10, 17, known);
    let body = format!(
        "{ROUTE}    - filters:\n        - externalAuth: {{}}\n          type: RequestHeaderModifier\n"
    );
    assert_fault(&body, 10, 11, known);
}

#[test]
fn unknown_kinds_are_refused_with_what_to_use_instead() {
    let of = |api: &str, kind: &str| {
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}\n")
    };
    let gateway = "gateway.networking.k8s.io/v1";
    assert_fault(&of("gateway.networking.k8s.io/v1alpha2", "TLSRoute"), 2, 7, "not supported yet");
    assert_fault(&of("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"), 2, 7, "Intention");
    assert_fault(&of(gateway, "Gateway"), 2, 7, "attach an HTTPRoute to a service");
    assert_fault(&of("v1", "Service"), 2, 7, "mesh/v1");
    assert_fault(&of("mesh/v1", "Intnetion"), 2, 7, "expected GRPCRoute, HTTPRoute, Intention, Service");
    assert_fault(&of("mesh/v2", "Intention"), 1, 13, "expected 'mesh/v1'");
    assert_fault("kind: Intention\n", 1, 1, "'apiVersion' is missing");
}

#[test]
fn wrong_types_and_missing_fields_are_placed() {
    let weight = format!("{ROUTE}    - backendRefs:\n        - name: web\n          weight: much\n");
    assert_fault(&weight, 11, 19, "");
    let list = format!("{ROUTE}    - backendRefs: web\n");
    assert_fault(&list, 9, 20, "expected");
    let missing = "apiVersion: mesh/v1\nkind: Intention\nmetadata: {name: x}\nspec:\n  destination: web\n  action: deny\n";
    let found = faults(missing);
    assert!(found[0].2.contains("the field 'sources' is missing"), "{found:?}");
    assert!((4..=7).contains(&found[0].0), "{found:?}");
    assert_fault("a: [1, 2\nb: c\n", 2, 2, "this is not YAML");
}

#[test]
fn what_validation_finds_is_put_back_to_its_line() {
    let text = format!(
        "---\n{ROUTE}    - name: first
      matches:
        - method: GET
        - path:
            type: Exact
            value: no-slash
        - headers:
            - name: 'a b'
              value: x
      timeouts: {{request: 1s, backendRequest: 2s}}
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier:
            set: [{{name: x, value: y}}]
            remove:
              - X
        - type: ResponseHeaderModifier
    - name: first
      backendRefs:
        - {{name: web, kind: Deployment}}
"
    );
    assert_fault(&text, 15, 20, "spec.rules[0].matches[1].path.value: 'no-slash' should begin with '/'");
    assert_fault(&text, 17, 21, "'a b' is not the name of a header field");
    assert_fault(&text, 19, 47, "at most 'request'");
    assert_fault(&text, 25, 17, "'X' is already in this filter");
    assert_fault(&text, 26, 11, "needs the field 'responseHeaderModifier'");
    assert_fault(&text, 27, 13, "there is already a rule 'first'");
    assert_fault(&text, 29, 29, "expected 'Service'");
}

#[test]
fn every_fault_of_every_document_is_reported() {
    let wrong = "apiVersion: mesh/v1\nkind: Intention\nmetadata: {name: X_}\nspec: {destination: '', sources: [], action: deny}\n";
    let lines: Vec<_> = faults(&format!("{wrong}---\n{wrong}")).into_iter().map(|(line, ..)| line).collect();

    assert_eq!(lines, [3, 4, 4, 8, 9, 9]);
}

#[test]
fn doubts_are_warnings_with_a_place() {
    let read = parse(&format!("{ROUTE}    - backendRefs: []\n")).unwrap();

    assert_eq!(read.warnings.len(), 1);
    assert_eq!((read.warnings[0].origin.line, read.warnings[0].origin.column), (9, 7));
}

#[test]
fn a_fault_shows_its_line_with_a_caret() {
    let faults =
        parse(&format!("{ROUTE}    - näme: é\n      retries: {{}}\n")).expect_err("two unknown fields");

    let shown = faults[0].to_string();
    assert_eq!(
        shown,
        "web.yaml:9:7: unknown field 'näme': expected name, matches, filters, backendRefs, timeouts, retry, sessionPersistence\n  9 |     - näme: é\n    |       ^"
    );
}

#[test]
fn how_an_object_fares_may_be_written_back_and_means_nothing() {
    let text = format!("{ROUTE}    - backendRefs: [{{name: web}}]\nstatus:\n  parents: []\n");

    let read = parse(&text).unwrap();

    assert!(read.objects[0].0.status().is_none());
}

#[test]
fn other_versions_of_the_same_schema_are_read_too() {
    let text = format!("{ROUTE}    - backendRefs: [{{name: web}}]\n").replace("io/v1", "io/v1beta1");
    let read = parse(&text).unwrap();
    let shown = serde_json::to_value(&read.objects[0].0).unwrap();
    assert_eq!(shown["apiVersion"], "gateway.networking.k8s.io/v1");

    let tcp = "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: db}\nspec: {parentRefs: [{kind: Service, group: '', name: db}], rules: [{backendRefs: [{name: db}]}]}\n";
    assert!(parse(tcp).is_ok());
    assert_fault(&text.replace("v1beta1", "v1alpha1"), 1, 13, "expected 'gateway.networking.k8s.io/v1'");
}

#[test]
fn a_parent_of_no_kind_is_a_gateway_and_refused_and_one_of_no_group_is_doubtful() {
    let text = format!("{ROUTE}    - backendRefs: [{{name: web}}]\n");
    assert_fault(&text.replace("kind: Service, group: '', ", ""), 7, 7, "write 'kind: Service'");

    let doubtful = parse(&text.replace("group: '', ", "")).unwrap();
    let warning = &doubtful.warnings[0];
    assert_eq!((warning.origin.line, warning.origin.column), (7, 7), "{warning}");
    assert!(warning.message.contains("without 'group'"), "{warning}");
    assert!(parse(&text).unwrap().warnings.is_empty());
}

#[test]
fn every_document_with_a_fault_is_named() {
    let weight = format!("{ROUTE}    - backendRefs: [{{name: web, weight: much}}]\n");
    let unknown = format!("{ROUTE}    - backendRef: []\n");

    let found = faults(&format!("{weight}---\n{unknown}---\n{weight}"));

    let lines: Vec<_> = found.iter().map(|(line, ..)| *line).collect();
    assert_eq!(lines, [9, 19, 29], "{found:#?}");
    assert!(found[0].2.contains("a number of 0 to 4294967295"), "{found:#?}");
}

#[test]
fn every_fault_of_one_document_is_shown_with_its_place_and_in_its_order() {
    let text = format!(
        "{ROUTE}    - name: first
      matchs: []
      matches:
        - method: GOT
        - path: {{type: Exact, value: no-slash}}
        - headers: [{{name: x}}, {{name: y, value: [1]}}]
      backendRefs:
        - {{name: web, weight: much, colour: red}}
        - {{name: web, weight: -1}}
        - weight: 2
    - name: first
      timeouts: 5s
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifer: {{}}
        - type: RequestRedirect
          requestRedirect: {{statusCode: 300, port: 99999}}
    - matches:
        - path: {{type: Exact, value: also-none}}
colour: red
"
    );

    let found = faults(&text);

    let shown: Vec<_> =
        found.iter().map(|(line, column, message)| format!("{line}:{column} {message}")).collect();
    let expected = [
        "10:7 unknown field 'matchs': expected",
        "12:19 'GOT' is not one of the choices: expected GET, HEAD",
        "13:38 spec.rules[0].matches[1].path.value: 'no-slash' should begin with '/'",
        "14:21 the field 'value' is missing",
        "14:49 this is a list: expected text",
        "16:31 this is not a number of 0 to 4294967295",
        "16:37 unknown field 'colour': expected",
        "17:31 this is not a number of 0 to 4294967295",
        "18:11 the field 'name' is missing",
        "19:13 spec.rules[1].name: there is already a rule 'first'",
        "20:17 this is '5s': expected a mapping of fields",
        "23:11 unknown field 'requestHeaderModifer': expected",
        "25:41 spec.rules[1].filters[1].requestRedirect.statusCode: 300 is not one of the choices",
        "25:52 this is not a number of 0 to 65535",
        "27:38 spec.rules[2].matches[0].path.value: 'also-none' should begin with '/'",
        "28:1 unknown field 'colour': expected",
    ];
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
    for (shown, expected) in shown.iter().zip(expected) {
        assert!(shown.starts_with(expected), "{expected}:\n{shown}\nin {text}");
    }
}

#[test]
fn faults_without_number_are_shown_up_to_a_bound() {
    let rules: String = (0..300).map(|_| "    - {colour: red}\n").collect();

    let shown = manifest::Error::Faults(faults_of(&format!("{ROUTE}{rules}"))).to_string();

    assert!(shown.lines().filter(|line| line.contains("unknown field 'colour'")).count() == 50, "{shown}");
}

#[test]
fn json_is_read_as_the_yaml_that_it_is() {
    let text = r#"{"apiVersion": "mesh/v1", "kind": "Intention", "metadata": {"name": "x"},
  "spec": {"destination": "web", "sources": [{"service": "*"}], "action": "deny"}}"#;

    assert_eq!(parse(text).unwrap().objects.len(), 1);
}

#[test]
fn columns_count_characters_and_lines_count_any_line_break() {
    let windows = format!("{ROUTE}    - näme: é\n").replace('\n', "\r\n");
    assert_fault(&windows, 9, 7, "unknown field 'näme'");
    let inline = "# é\n--- {apiVersion: mesh/v1, kind: Intention, metadata: {name: é}, spec: {destination: web, sources: [{node: '*'}], action: deny}}\n";
    assert_fault(inline, 2, 61, "'é' is not a name");
    let mark = format!("\u{feff}{ROUTE}    - externalAuth: {{}}\n");
    assert_fault(&mark, 9, 7, "not supported yet");
}

#[test]
fn a_value_behind_an_alias_is_placed_where_it_is_used() {
    let text =
        format!("{ROUTE}    - backendRefs: [&b {{name: web, weight: 2000000}}]\n    - backendRefs: [*b]\n");
    assert_fault(&text, 9, 44, "spec.rules[0].backendRefs[0].weight");
    assert_fault(&text, 10, 21, "spec.rules[1].backendRefs[0].weight");
}

#[test]
fn hostile_texts_are_refused_in_bounded_time_and_memory() {
    let mut laughs = format!("{ROUTE}    - name: &a0 lol\n");
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        writeln!(laughs, "      x{level}: &a{level} [{before}, {before}, {before}, {before}]").unwrap();
    }
    assert!(parse(&laughs).is_err());
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert!(parse(&format!("{ROUTE}    - name: {}\n", "[".repeat(200))).is_err());
    assert!(parse(&format!("{}\n", "- ".repeat(100_000))).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(before in 0usize..9, rest in "([ \n:,{}\\[\\]&*#'\"|>-]|[a-z]|é|\t){0,60}") {
        let head: String = ROUTE.split_inclusive('\n').take(before).collect();
        if let Err(faults) = parse(&format!("{head}{rest}")) {
            prop_assert!(faults.iter().all(|fault| fault.origin.line > 0 && fault.origin.column > 0));
            prop_assert!(faults.iter().all(|fault| !fault.to_string().is_empty()));
        }
    }
}

#[test]
fn files_directories_and_their_limits() {
    let directory = tempfile::tempdir().unwrap();
    let good = format!("{ROUTE}    - backendRefs: [{{name: web}}]\n");
    std::fs::write(directory.path().join("b.yaml"), &good).unwrap();
    std::fs::write(directory.path().join("a.yml"), good.replace("name: web\nspec", "name: api\nspec"))
        .unwrap();
    std::fs::write(directory.path().join("notes.txt"), "not: [yaml").unwrap();

    let read = manifest::read(&[directory.path().to_owned()]).unwrap();
    let names: Vec<_> = read.objects.iter().map(|(object, _)| object.metadata().name.as_str()).collect();
    assert_eq!(names, ["api", "web"]);

    let large = directory.path().join("large.yaml");
    std::fs::write(&large, "#".repeat(files::FILE_BYTES_MAX as usize + 1)).unwrap();
    assert!(matches!(manifest::read(&[large]), Err(manifest::Error::Files(files::Error::TooLarge { .. }))));
    assert!(matches!(
        manifest::read(&[directory.path().join("none.yaml")]),
        Err(manifest::Error::Files(files::Error::Read { .. }))
    ));
    std::fs::write(directory.path().join("bytes.yaml"), [b'a', 0xff]).unwrap();
    let bytes = manifest::read(&[directory.path().join("bytes.yaml")]);
    assert!(matches!(bytes, Err(manifest::Error::Files(files::Error::NotText { at: 1, .. }))));
    std::fs::write(directory.path().join("empty.yaml"), "# nothing\n").unwrap();
    let empty = manifest::read(&[directory.path().join("empty.yaml")]);
    assert!(matches!(empty, Err(manifest::Error::Empty(_))));
}

#[test]
fn manifests_that_belong_to_a_cluster_are_refused_with_what_to_use_instead() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifests/refused");
    let mut documents = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let expected: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# refused: ")).collect();

        let found = faults(&text);

        let told: Vec<_> =
            found.iter().map(|(line, column, message)| format!("{line}:{column} {message}")).collect();
        assert_eq!(told.len(), expected.len(), "{}: {told:#?}", file.display());
        for (told, expected) in told.iter().zip(&expected) {
            let (place, sentence) = expected.split_once(' ').unwrap();
            assert!(
                told.starts_with(&format!("{place} ")) && told.contains(sentence),
                "{expected}\n{told:?}"
            );
        }
        documents += expected.len();
    }
    assert!(documents > 20, "{documents}");
}

#[test]
fn what_somebody_else_says_of_a_field_is_put_to_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let rule = "    - backendRefs: [{name: api}]\n";
    let second = ROUTE.replace("  name: web\nspec", "  name: second\nspec");
    let file = directory.path().join("two.yaml");
    std::fs::write(&file, format!("# é\n---\n{ROUTE}{rule}--- # another\n{second}{rule}")).unwrap();

    let read = manifest::read(std::slice::from_ref(&file)).unwrap();

    let place = |name: &str, path: &str| {
        let (object, _) = read.objects.iter().find(|(object, _)| object.metadata().name == name).unwrap();
        let fault = read.fault(&object.key(), path, "no").unwrap();
        (fault.origin.line, fault.origin.column, fault.line)
    };
    let line = rule.trim_end().to_owned();
    assert_eq!(place("web", "spec.rules[0].backendRefs[0].name"), (11, 28, line.clone()));
    assert_eq!(place("second", "spec.rules[0].backendRefs[0].name"), (21, 28, line));
    assert_eq!(place("second", "metadata.name"), (16, 9, "  name: second".to_owned()));
    let stranger: mesh::model::resource::Key = "httproutes/default/nobody".parse().unwrap();
    assert!(read.fault(&stranger, "spec", "no").is_none());
}
