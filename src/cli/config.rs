//! The configuration that `get_config` answers: a YAML file, as the Python daemon would send it.

use serde_cbor::Value;

/// Why a text can't be a configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// It is not YAML.
    #[error("not readable as YAML: {0}")]
    Syntax(String),
    /// It is YAML, but no mapping.
    #[error("expected a mapping at the top level")]
    Type,
    /// It can't be encoded.
    #[error("can't be encoded: {0}")]
    Encoding(#[from] serde_cbor::Error),
}

/// Encodes a YAML text (1.1 or 1.2) as a map; an empty one is an empty map.
///
/// Plain ASCII strings become byte strings, which is what Python 2's YAML reader makes of them: a
/// client that prints the configuration as YAML would else mark each of them as Unicode.
///
/// # Errors
/// See [`ConfigError`].
pub(super) fn encode_yaml(yaml: &str) -> Result<Vec<u8>, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let value: Value = serde_saphyr::from_str_with_options(yaml, options)
        .map_err(|error| ConfigError::Syntax(error.to_string().replace('\n', " ")))?;
    match value {
        Value::Null => Ok(coordinated_client::cbor::EMPTY_MAP.to_vec()),
        Value::Map(_) => Ok(serde_cbor::to_vec(&as_python_2_has_it(value))?),
        _ => Err(ConfigError::Type),
    }
}

fn as_python_2_has_it(value: Value) -> Value {
    match value {
        Value::Text(text) if text.is_ascii() => Value::Bytes(text.into_bytes()),
        Value::Array(items) => Value::Array(items.into_iter().map(as_python_2_has_it).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (as_python_2_has_it(key), as_python_2_has_it(value)))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_becomes_a_map_with_the_types_that_python_gives_it() {
        let encoded =
            encode_yaml("job_queue: {limit: 5, ratio: 1.5, on: yes}\nname: ü\n").expect("a map");
        let job_queue: Value = serde_cbor::from_slice(&encoded).expect("CBOR");
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let Value::Map(entries) = job_queue else {
            panic!("no map")
        };
        assert_eq!(
            entries.get(&bytes("name")),
            Some(&Value::Text("ü".to_owned()))
        );
        let Some(Value::Map(inner)) = entries.get(&bytes("job_queue")) else {
            panic!("no inner map")
        };
        assert_eq!(inner.get(&bytes("limit")), Some(&Value::Integer(5)));
        assert_eq!(inner.get(&bytes("ratio")), Some(&Value::Float(1.5)));
    }

    #[test]
    fn an_empty_file_is_an_empty_configuration_and_a_list_is_none() {
        assert_eq!(encode_yaml("").expect("empty"), b"\xa0");
        assert!(matches!(encode_yaml("- a\n"), Err(ConfigError::Type)));
        assert!(matches!(encode_yaml("a: [\n"), Err(ConfigError::Syntax(_))));
    }
}
