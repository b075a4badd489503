//! Who says what the tasks get: the command line, before `cluster:` of the pipeline, before the site file.

use serde_json::Value;

use super::SubmitArgs;
use crate::cli::pipeline::Resolved;
use crate::cluster::task::misfit;
use crate::cluster::{ClusterError, site};
use crate::spec::check::check_together;
use crate::spec::cluster::ClusterSpec;
use crate::spec::device::DeviceList;
use crate::spec::document::Document;

/// What each of them says, the first before the others.
pub(super) struct Layers {
    layers: Vec<Layer>,
    /// Where `devices` stand that none of them names.
    pipeline: String,
}

struct Layer {
    /// Its name, after `in` or `on`.
    name: String,
    spec: ClusterSpec,
    /// `--set` arguments that it was changed by.
    sets: Vec<String>,
}

impl Layers {
    /// Reads the site file.
    ///
    /// # Errors
    /// It cannot be read, or is wrong by itself.
    pub(super) fn of(args: &SubmitArgs, resolved: &Resolved) -> Result<Self, ClusterError> {
        let line = ClusterSpec {
            chunk: args.chunk,
            devices: args.pipeline.devices.clone(),
            ..ClusterSpec::default()
        };
        let path = site::find(args.site.as_deref(), |name| std::env::var_os(name).map(Into::into));
        let site = path.as_deref().map(site::read).transpose()?.unwrap_or_default();
        let site_name = path.map_or_else(String::new, |path| format!("in the site file {}", path.display()));
        Ok(Self::new(line, &resolved.document, (site_name, site)))
    }

    fn new(line: ClusterSpec, document: &Document, (site_name, site): (String, ClusterSpec)) -> Self {
        let pipeline = &document.source().name;
        let own = document.spec.cluster.clone().unwrap_or_default();
        let sets = document.sets().map(str::to_owned).collect();
        let plain = |name: String, spec| Layer { name, spec, sets: Vec::new() };
        let layers = vec![
            plain("on the command line".to_owned(), line),
            Layer { sets, ..plain(format!("in `cluster:` of {pipeline}"), own) },
            plain(site_name, site),
        ];
        Self { layers, pipeline: format!("in {pipeline}") }
    }

    /// All of them together, for tasks on the devices of a pipeline unless they name others.
    ///
    /// # Errors
    /// [`ClusterError::Together`]: values of several that do not go together, with where they stand.
    pub(super) fn together(&self, devices: &DeviceList) -> Result<ClusterSpec, ClusterError> {
        let specs = self.layers.iter().map(|layer| layer.spec.clone());
        let spec = specs.reduce(ClusterSpec::over).unwrap_or_default();
        let refuse = |text, fields: [&str; 2]| {
            let origins = fields.iter().filter_map(|field| self.origin(field, devices));
            Err(ClusterError::Together { text, origins: origins.collect::<Vec<_>>().join(", ") })
        };
        if let Some(problem) = check_together(&spec) {
            return refuse(problem.message, ["warn", "time"]);
        }
        match misfit(&spec, spec.devices.as_ref().unwrap_or(devices)) {
            Some(misfit) => refuse(misfit.text, ["devices", misfit.field]),
            None => Ok(spec),
        }
    }

    /// The value of a field with where it stands; none if it is nowhere.
    fn origin(&self, field: &str, devices: &DeviceList) -> Option<String> {
        let said = self.layers.iter().find_map(|layer| Some((layer, layer.value(field)?)));
        let (value, place) = match said {
            Some((layer, value)) => (value, layer.place(field)),
            None if field == "devices" => (devices.to_string(), self.pipeline.clone()),
            None => return None,
        };
        Some(format!("`{field}: {value}` {place}"))
    }
}

impl Layer {
    fn value(&self, field: &str) -> Option<String> {
        match serde_json::to_value(&self.spec).ok()?.get(field)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    fn place(&self, field: &str) -> String {
        let (own, all) = (format!("cluster.{field}="), "cluster=");
        let set = self.sets.iter().rfind(|set| set.starts_with(&own) || set.starts_with(all));
        set.map_or_else(|| self.name.clone(), |set| format!("by --set {set}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::diagnostic::Source;

    fn spec(text: &str) -> ClusterSpec {
        ClusterSpec::parse(&Source { name: "site.yaml".to_owned(), text: text.to_owned() }).unwrap()
    }

    /// A pipeline with a section and these `--set` arguments, over a site file.
    fn layers(section: &str, sets: &[&str], site: &str) -> Layers {
        let text = format!(
            "name: a\ndataset: {{ name: b }}\noutput: c\ntasks: []\nmethods: []\ncluster: {{ {section} }}\n"
        );
        let mut document = Document::parse(Source { name: "p.yaml".to_owned(), text }).unwrap();
        sets.iter().for_each(|set| document.set(set).unwrap());
        let site = ("in the site file s.yaml".to_owned(), spec(site));
        Layers::new(ClusterSpec::default(), &document, site)
    }

    fn refused(layers: &Layers, devices: &str) -> String {
        layers.together(&devices.parse().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_warning_and_a_limit_of_two_files_leave_time_for_work() {
        let both = layers("", &["cluster.time=10m"], "warn: 600");
        let said = refused(&both, "auto");
        assert!(said.contains("leaves less than a minute of work"), "{said}");
        assert!(said.contains("`warn: 600` in the site file s.yaml"), "{said}");
        assert!(said.contains("by --set cluster.time=10m"), "{said}");
        let said = refused(&layers("warn: 60", &[], "time: 1m"), "auto");
        assert!(said.contains("`warn: 60` in `cluster:` of p.yaml"), "{said}");
        assert!(layers("warn: 60", &[], "time: 2m").together(&DeviceList::default()).is_ok());
        // The section replaces what would be wrong.
        assert!(
            layers("warn: 60", &["cluster.time=10m"], "warn: 600").together(&DeviceList::default()).is_ok()
        );
    }

    #[test]
    fn devices_that_tasks_have_not_are_told_with_who_says_so() {
        let said = refused(&layers("", &[], "gpus: 1"), "cpu");
        assert!(said.contains("set `gpus: 0`"), "{said}");
        assert!(said.contains("`devices: cpu` in p.yaml, `gpus: 1` in the site file s.yaml"), "{said}");
        let said = refused(&layers("devices: cuda", &[], "gpus: 0"), "cpu");
        assert!(said.contains("needs GPUs") && said.contains("`cluster:` of p.yaml"), "{said}");
        let said = refused(&layers("cpus: 4", &[], ""), "cpu:64x2");
        assert!(said.contains("needs 128 cores") && said.contains("`cpus: 4` in `cluster:`"), "{said}");
        // The command line comes first.
        let mut line = layers("devices: cuda", &[], "gpus: 0");
        line.layers[0].spec.devices = Some("cpu:1x1".parse().unwrap());
        assert_eq!(line.together(&DeviceList::default()).unwrap().devices, line.layers[0].spec.devices);
    }
}
