package resource

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestServiceRefused has one mistake a line in a new Service.
func TestServiceRefused(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{`{ports: [{port: 80}]}`, ""},
		{`{clusterIPs: [10.96.0.9], ports: [{port: 80}]}`, "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: must be empty when `clusterIP` is not specified"},
		{`{clusterIP: 010.96.0.9, ports: [{port: 80}]}`, `spec.clusterIPs[0]: Invalid value: "010.96.0.9": must not have leading 0s`},
		{`{clusterIP: "fd00::1", ports: [{port: 80}]}`, `spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster`},
		{`{clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 10.96.0.10], ports: [{port: 80}]}`, `spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.10"]: may specify no more than one IP for each IP family`},
		{`{clusterIP: None, clusterIPs: [None, 10.96.0.10], ports: [{port: 80}]}`, `spec.clusterIPs: Invalid value: ["None","10.96.0.10"]: 'None' must be the first and only value`},
		{`{clusterIP: 10.96.0.9, ipFamilies: [IPv6], ports: [{port: 80}]}`, "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`"},
		{`{ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}`, `spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified`},
		{`{ipFamilies: [IPv6], ports: [{port: 80}]}`, `spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`},
		{`{ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`, `spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`},
		{`{clusterIP: None, ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`, ""},
		{`{type: LoadBalancer, loadBalancerClass: a b, ports: [{port: 80}]}`, `spec.loadBalancerClass: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`},
		{`{type: ExternalName, externalName: example.org, ipFamilyPolicy: SingleStack}`, `spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services`},
		{`{type: ExternalName, externalName: Example.org.}`, `spec.externalName: Invalid value: "Example.org": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		{`{type: ExternalName, externalName: example.org, internalTrafficPolicy: Far}`, `spec.internalTrafficPolicy: Unsupported value: "Far": supported values: "Cluster", "Local"`},
	} {
		if got := firstError(t, Service, c.spec); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.spec, got, c.want)
		}
	}
}

// TestServiceChangeRefused has one forbidden change a line: what the Service
// was, and what it shall be.
func TestServiceChangeRefused(t *testing.T) {
	const balancer = `type: LoadBalancer, externalTrafficPolicy: Local, loadBalancerClass: a/b, clusterIP: 10.96.0.9, ports: [{port: 80}]`
	for _, c := range []struct{ old, spec, want string }{
		{`{` + balancer + `, healthCheckNodePort: 30001}`, `{` + balancer + `}`, ""},
		{`{` + balancer + `, healthCheckNodePort: 30001}`, `{` + balancer + `, healthCheckNodePort: 30002}`, `spec.healthCheckNodePort: Forbidden: field is immutable`},
		{`{` + balancer + `, healthCheckNodePort: 30001}`, `{type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}`, `spec.loadBalancerClass: Invalid value: null: may not change once set`},
		{`{` + balancer + `, healthCheckNodePort: 30001}`, `{type: ClusterIP, loadBalancerClass: a/b, healthCheckNodePort: 30001, externalTrafficPolicy: Local, ports: [{port: 80}]}`, ""},
		{`{` + balancer + `, healthCheckNodePort: 30001}`, `{type: ClusterIP, loadBalancerClass: c/d, ports: [{port: 80}]}`, "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"},
		{`{` + balancer + `, healthCheckNodePort: 30001}`, `{type: ClusterIP, externalTrafficPolicy: Cluster, ports: [{port: 80}]}`, `spec.externalTrafficPolicy: Invalid value: "Cluster": may only be set for externally-accessible services`},
		{`{clusterIP: 10.96.0.9, ports: [{port: 80}]}`, `{clusterIP: 10.96.0.8, ports: [{port: 80}]}`, `spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set`},
		{`{clusterIP: 10.96.0.9, ports: [{port: 80}]}`, `{clusterIP: 10.96.0.8, clusterIPs: [10.96.0.8], ports: [{port: 80}]}`, `spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set`},
		{`{clusterIP: 10.96.0.9, ports: [{port: 80}]}`, `{clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}`, `spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set`},
		{`{clusterIP: 10.96.0.9, ports: [{port: 80}]}`, `{type: ExternalName, externalName: example.org, clusterIP: 10.96.0.9, ports: [{port: 80}]}`, ""},
		{`{clusterIP: 10.96.0.9, ports: [{port: 80}]}`, `{type: ExternalName, externalName: example.org, clusterIP: 10.96.0.8, clusterIPs: [10.96.0.8], ports: [{port: 80}]}`, `spec.clusterIPs: Forbidden: may not be set for ExternalName services`},
	} {
		old, svc := service(t, c.old), service(t, c.spec)
		prepareService(old, nil)
		settleFamilies(old, nil)
		prepareService(svc, old)
		errs := settleFamilies(svc, old)
		if len(errs) == 0 {
			errs = validateService(svc, old)
		}
		got := ""
		if len(errs) > 0 {
			got = errs[0].Error()
		}
		if got != c.want {
			t.Errorf("%s\n-> %s\n got %s\nwant %s", c.old, c.spec, got, c.want)
		}
	}
}

// service is a Service of this spec, in YAML, with its defaults.
func service(t *testing.T, spec string) *corev1.Service {
	t.Helper()
	svc := &corev1.Service{}
	if err := yaml.Unmarshal([]byte(`{metadata: {name: x, namespace: default}, spec: `+spec+`}`), svc); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	defaultService(svc)
	return svc
}

func TestServiceWarnings(t *testing.T) {
	for _, c := range []struct {
		spec string
		want []string
	}{
		{`{ports: [{port: 80}]}`, nil},
		{`{trafficDistribution: PreferClose}`, []string{`spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`}},
		{`{externalIPs: [192.0.2.1]}`, []string{"spec.externalIPs is deprecated and may no longer be implemented in some clusters"}},
		{`{type: ExternalName, externalIPs: [192.0.2.1]}`, []string{`spec.externalIPs is ignored when spec.type is "ExternalName"`}},
		{`{clusterIP: None, externalIPs: [192.0.2.1], sessionAffinity: ClientIP}`, []string{"spec.externalIPs is ignored for headless services", "spec.SessionAffinity is ignored for headless services"}},
		{`{loadBalancerIP: 192.0.02.1}`, []string{`spec.loadBalancerIP: non-standard IP address "192.0.02.1" is invalid: use "192.0.2.1"`}},
		{`{loadBalancerSourceRanges: [10.1.0.0/8]}`, []string{`spec.loadBalancerSourceRanges[0]: CIDR value "10.1.0.0/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.1.0.0/32"?)`}},
	} {
		if got := warnService(service(t, c.spec)); !slices.Equal(got, c.want) {
			t.Errorf("%s\n got %q\nwant %q", c.spec, got, c.want)
		}
	}
}

func TestEndpointSliceGeneration(t *testing.T) {
	old := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Generation: 3, Labels: map[string]string{"a": "b"}}}
	for label, want := range map[string]int64{"b": 3, "c": 4} {
		s := old.DeepCopy()
		s.Labels["a"] = label
		if prepareEndpointSlice(s, old); s.Generation != want {
			t.Errorf("label %s: generation %d, want %d", label, s.Generation, want)
		}
	}
}
