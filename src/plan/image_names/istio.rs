//! Istio's images in a cluster, as its charts and its injector name them: istio 1.31, manifests/charts/istio-control/istio-discovery,
//! manifests/charts/gateways and pkg/kube/inject/inject.go. A pure function.

use serde_json::Value;

/// The types of images that Istio publishes, as suffixes of tags. The injector replaces them.
const TYPES: [&str; 2] = ["-distroless", "-debug"];

/// Returns the images that an IstioOperator renders, and those that istiod injects, each once: of istiod unless it is the one for a
/// remote cluster, of the proxy, of the container that redirects to it, and of the gateway.
pub(in crate::plan) fn images(operator: &Value) -> Vec<String> {
    let spec = Spec(&operator["spec"]);
    let mut images = Vec::new();
    if operator["spec"]["profile"] != "remote" {
        images.push(spec.istiod());
    }
    images.push(spec.proxy());
    images.push(spec.init());
    for (component, gateway) in
        [("ingressGateways", "istio-ingressgateway"), ("egressGateways", "istio-egressgateway")]
    {
        let is_planned = operator["spec"]["components"][component].is_array();
        if is_planned || spec.0["values"]["gateways"][gateway]["enabled"] == true {
            images.push(spec.gateway(gateway));
        }
    }
    let mut seen = Vec::new();
    images.retain(|image| {
        let is_new = !seen.contains(image);
        seen.push(image.clone());
        is_new
    });
    images
}

struct Spec<'a>(&'a Value);

impl Spec<'_> {
    /// Returns a Helm value; none if it is empty, as for Helm's `default`.
    fn value(&self, path: &str) -> Option<String> {
        text(self.0["values"].pointer(path)?)
    }

    fn hub(&self) -> String {
        text(&self.0["hub"]).unwrap_or_default()
    }

    fn tag(&self) -> String {
        text(&self.0["tag"]).unwrap_or_default()
    }

    fn variant(&self) -> Option<String> {
        self.value("/global/variant")
    }

    fn istiod(&self) -> String {
        let hub = self.value("/pilot/hub").unwrap_or_else(|| self.hub());
        let tag = self.value("/pilot/tag").unwrap_or_else(|| self.tag());
        let variant = self.value("/pilot/variant").or_else(|| self.variant());
        named(&hub, self.value("/pilot/image"), "pilot", &suffixed(&tag, variant.as_deref()))
    }

    /// Returns the image of the proxy of a workload without an annotation for it.
    fn proxy(&self) -> String {
        const TYPE: &str = "/defaultConfig/image/imageType";
        // Both are merged, and the values win.
        let of_mesh = self.0["meshConfig"].pointer(TYPE).and_then(text);
        let of = self.value(&format!("/meshConfig{TYPE}")).or(of_mesh).or_else(|| self.variant());
        named(&self.hub(), self.value("/global/proxy/image"), "proxyv2", &typed(&self.tag(), of.as_deref()))
    }

    fn init(&self) -> String {
        let tag = typed(&self.tag(), self.variant().as_deref());
        named(&self.hub(), self.value("/global/proxy_init/image"), "proxyv2", &tag)
    }

    /// Returns the image of a gateway, which istioctl renders with the values of its chart's first gateway.
    fn gateway(&self, name: &str) -> String {
        let tag = self.value(&format!("/gateways/{name}/tag")).unwrap_or_else(|| self.tag());
        let variant = self.value("/global/proxy/variant").or_else(|| self.variant());
        named(&self.hub(), self.value("/global/proxy/image"), "proxyv2", &suffixed(&tag, variant.as_deref()))
    }
}

/// Returns the name of an image: a value with a slash is a whole reference.
fn named(hub: &str, image: Option<String>, default: &str, tag: &str) -> String {
    match image {
        Some(whole) if whole.contains('/') => whole,
        image => format!("{hub}/{}:{tag}", image.as_deref().unwrap_or(default)),
    }
}

/// Returns a tag as the charts make it.
fn suffixed(tag: &str, variant: Option<&str>) -> String {
    variant.map_or_else(|| tag.to_owned(), |variant| format!("{tag}-{variant}"))
}

/// Returns a tag as the injector makes it.
fn typed(tag: &str, of: Option<&str>) -> String {
    let Some(of) = of else { return tag.to_owned() };
    let plain = TYPES.iter().find_map(|suffix| tag.strip_suffix(suffix)).unwrap_or(tag);
    if of == "default" { plain.to_owned() } else { format!("{plain}-{of}") }
}

/// Returns text or a number as text; none if it is empty.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(values: Value) -> Vec<String> {
        images(
            &json!({"spec": {"profile": "minimal", "hub": "r.example/istio", "tag": "1.31.1", "values": values}}),
        )
    }

    #[test]
    fn images_follow_the_values_that_name_them() {
        let (pilot, proxy) = ("r.example/istio/pilot:1.31.1", "r.example/istio/proxyv2:1.31.1");
        for (values, expected) in [
            (json!({}), vec![pilot, proxy]),
            (json!({"pilot": {"hub": "", "tag": null}}), vec![pilot, proxy]),
            (json!({"pilot": {"hub": "mine.example"}}), vec!["mine.example/pilot:1.31.1", proxy]),
            (json!({"pilot": {"tag": "fix"}}), vec!["r.example/istio/pilot:fix", proxy]),
            (json!({"pilot": {"tag": 7}}), vec!["r.example/istio/pilot:7", proxy]),
            (json!({"pilot": {"image": "discovery"}}), vec!["r.example/istio/discovery:1.31.1", proxy]),
            // A whole reference takes no hub, no tag and no variant.
            (
                json!({"pilot": {"image": "a.example/p:2", "tag": "x"}, "global": {"variant": "debug"}}),
                vec!["a.example/p:2", "r.example/istio/proxyv2:1.31.1-debug"],
            ),
            (
                json!({"global": {"proxy": {"image": "a.example/envoy:2"}}}),
                vec![pilot, "a.example/envoy:2", proxy],
            ),
            (
                json!({"global": {"proxy_init": {"image": "init"}}}),
                vec![pilot, proxy, "r.example/istio/init:1.31.1"],
            ),
            (
                json!({"global": {"variant": "distroless"}}),
                vec!["r.example/istio/pilot:1.31.1-distroless", "r.example/istio/proxyv2:1.31.1-distroless"],
            ),
            (
                json!({"pilot": {"variant": "debug"}, "meshConfig": {"defaultConfig": {"image": {"imageType": "debug"}}}}),
                vec!["r.example/istio/pilot:1.31.1-debug", "r.example/istio/proxyv2:1.31.1-debug", proxy],
            ),
            (
                json!({"gateways": {"istio-ingressgateway": {"enabled": true, "tag": "2"}}}),
                vec![pilot, proxy, "r.example/istio/proxyv2:2"],
            ),
            // Without a gateway, its values name no image.
            (json!({"gateways": {"istio-ingressgateway": {"tag": "2"}}}), vec![pilot, proxy]),
        ] {
            assert_eq!(of(values.clone()), expected, "{values}");
        }
    }

    #[test]
    fn remote_cluster_has_no_istiod() {
        let operator = json!({"spec": {"profile": "remote", "hub": "r.example", "tag": "1"}});
        assert_eq!(images(&operator), ["r.example/proxyv2:1"]);
    }

    #[test]
    fn gateway_has_the_image_of_its_chart() {
        let operator = json!({"spec": {"profile": "minimal", "hub": "r.example", "tag": "1-distroless",
            "components": {"ingressGateways": [{"name": "istio-eastwestgateway"}]},
            "values": {"global": {"variant": "debug"}}}});
        // The chart adds the variant, the injector replaces it.
        assert_eq!(
            images(&operator),
            [
                "r.example/pilot:1-distroless-debug",
                "r.example/proxyv2:1-debug",
                "r.example/proxyv2:1-distroless-debug"
            ]
        );
    }
}
