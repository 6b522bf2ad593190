package resource

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// TestRefused has one mistake a line: what is added to a good object of the
// kind (as a JSON merge would), and what the user reads. The kinds of the core
// and apps groups have theirs in the answers recorded from a real server.
func TestRefused(t *testing.T) {
	const pod = `{metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: i}]}}`
	const never = `{spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}`
	const backend = `backend: {service: {name: s, port: {number: 80}}}`
	for _, c := range []struct {
		kind       *Kind
		spec, want string
	}{
		{StatefulSet, `{selector: {matchLabels: {app: a}}, template: ` + pod + `}`, ""},
		{StatefulSet, `{replicas: -1, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.replicas: Invalid value: -1: must be greater than or equal to 0`},
		{StatefulSet, `{podManagementPolicy: Random, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.podManagementPolicy: Invalid value: "Random": must be 'OrderedReady' or 'Parallel'`},
		{StatefulSet, `{selector: {matchLabels: {app: b}}, template: ` + pod + `}`, "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"},
		{StatefulSet, `{updateStrategy: {rollingUpdate: {partition: -1}}, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0`},
		{StatefulSet, `{minReadySeconds: -1, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0`},
		{Job, `{template: ` + never + `}`, ""},
		{StatefulSet, `{persistentVolumeClaimRetentionPolicy: {whenScaled: Keep}, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Keep": supported values: "Retain", "Delete"`},
		{StatefulSet, `{updateStrategy: {type: Sometimes}, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.updateStrategy: Invalid value: {"Type":"Sometimes","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete'`},
		{StatefulSet, `{serviceName: A_, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.serviceName: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`},
		{DaemonSet, `{updateStrategy: {type: Nope, rollingUpdate: {maxUnavailable: 1}}, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.updateStrategy: Unsupported value: {"Type":"Nope","RollingUpdate":{"MaxUnavailable":1,"MaxSurge":0}}: supported values: "RollingUpdate", "OnDelete"`},
		{DaemonSet, `{updateStrategy: {rollingUpdate: {maxUnavailable: 0}}, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0`},
		{DaemonSet, `{updateStrategy: {rollingUpdate: {maxUnavailable: "150%"}}, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%`},
		{Deployment, `{strategy: {rollingUpdate: {maxUnavailable: "150%"}}, selector: {matchLabels: {app: a}}, template: ` + pod + `}`, `spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%`},
		{Deployment, `{selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {activeDeadlineSeconds: 5, containers: [{name: c, image: i}]}}}`, `spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported`},
		{Job, `{maxFailedIndexes: 1, template: ` + never + `}`, `spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified`},
		{Job, `{completionMode: Indexed, completions: 1, parallelism: 100001, template: ` + never + `}`, `spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed`},
		{Job, `{managedBy: me, template: ` + never + `}`, `spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")`},
		{Job, `{template: {metadata: {labels: {job-name: other}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}`, `spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"uid","batch.kubernetes.io/job-name":"x","controller-uid":"uid","job-name":"other"}: must be 'x'`},
		{Job, `{template: ` + pod + `}`, `spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"`},
		{Job, `{parallelism: -1, template: ` + never + `}`, `spec.parallelism: Invalid value: -1: must be greater than or equal to 0`},
		{Job, `{completions: -1, template: ` + never + `}`, `spec.completions: Invalid value: -1: must be greater than or equal to 0`},
		{Job, `{backoffLimit: -1, template: ` + never + `}`, `spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0`},
		{Job, `{activeDeadlineSeconds: -1, template: ` + never + `}`, `spec.activeDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0`},
		{Job, `{ttlSecondsAfterFinished: -1, template: ` + never + `}`, `spec.ttlSecondsAfterFinished: Invalid value: -1: must be greater than or equal to 0`},
		{Job, `{completionMode: Indexed, parallelism: 2, template: ` + never + `}`, `spec.completions: Required value: when completion mode is Indexed`},
		{Job, `{completionMode: Sorted, template: ` + never + `}`, `spec.completionMode: Unsupported value: "Sorted": supported values: "NonIndexed", "Indexed"`},
		{PodDisruptionBudget, `{minAvailable: 1, selector: {matchLabels: {app: a}}}`, ""},
		{PodDisruptionBudget, `{minAvailable: -1}`, `spec.minAvailable: Invalid value: -1: must be greater than or equal to 0`},
		{PodDisruptionBudget, `{minAvailable: "120%"}`, `spec.minAvailable: Invalid value: "120%": must not be greater than 100%`},
		{PodDisruptionBudget, `{maxUnavailable: half}`, `spec.maxUnavailable: Invalid value: "half": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`},
		{PodDisruptionBudget, `{unhealthyPodEvictionPolicy: Sometimes}`, `spec.unhealthyPodEvictionPolicy: Unsupported value: "Sometimes": supported values: "AlwaysAllow", "IfHealthyBudget"`},
		{NetworkPolicy, `{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]}`, ""},
		{NetworkPolicy, `{podSelector: {}, ingress: [{from: [{}]}]}`, `spec.ingress[0].from[0]: Required value: must specify a peer`},
		{NetworkPolicy, `{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}`, `spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer`},
		{NetworkPolicy, `{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0}}]}]}`, `spec.egress[0].to[0].ipBlock.cidr: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`},
		{NetworkPolicy, `{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/24]}}]}]}`, "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/24\": must be a strict subset of `cidr`"},
		{NetworkPolicy, `{podSelector: {}, ingress: [{ports: [{port: 70000}]}]}`, `spec.ingress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive`},
		{NetworkPolicy, `{podSelector: {}, ingress: [{ports: [{protocol: ICMP, port: 80}]}]}`, `spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP"`},
		{NetworkPolicy, `{podSelector: {}, policyTypes: [Both]}`, `spec.policyTypes[0]: Unsupported value: "Both": supported values: "Ingress", "Egress"`},
		{Ingress, `{rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, ` + backend + `}]}}]}`, ""},
		{Ingress, `{}`, "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"},
		{Ingress, `{rules: [{http: {paths: [{path: /, ` + backend + `}]}}]}`, `spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified`},
		{Ingress, `{rules: [{http: {paths: [{path: a, pathType: Prefix, ` + backend + `}]}}]}`, `spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path`},
		{Ingress, `{rules: [{http: {paths: [{path: /a//b, pathType: Exact, ` + backend + `}]}}]}`, `spec.rules[0].http.paths[0].path: Invalid value: "/a//b": must not contain '//'`},
		{Ingress, `{rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s}}}]}}]}`, `spec.rules[0].http.paths[0].backend: Required value: port name or number is required`},
		{Ingress, `{rules: [{http: {paths: []}}]}`, `spec.rules[0].http.paths: Required value`},
		{IngressClass, `{controller: example.com/ingress}`, ""},
		{IngressClass, `{}`, `spec.controller: Required value`},
		{ServiceCIDR, `{cidrs: [10.112.0.0/24]}`, ""},
		{ServiceCIDR, `{}`, `spec.cidrs: Required value: at least one CIDR required`},
		{ServiceCIDR, `{cidrs: [10.112.0.0]}`, `spec.cidrs[0]: Invalid value: "10.112.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`},
		{NetworkPolicy, `{podSelector: {}, ingress: [{ports: [{endPort: 90}]}]}`, "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified"},
		{NetworkPolicy, `{podSelector: {}, ingress: [{ports: [{port: http, endPort: 90}]}]}`, "spec.ingress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric"},
		{NetworkPolicy, `{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 70000}]}]}`, `spec.ingress[0].ports[0].endPort: Invalid value: 70000: must be between 1 and 65535, inclusive`},
		{Ingress, `{defaultBackend: {}}`, `spec.defaultBackend: Invalid value: "": resource or service backend is required`},
		{Ingress, `{defaultBackend: {service: {name: 100m, port: {number: 80}}}}`, ``},
		{Ingress, `{defaultBackend: {resource: {name: a/b, kind: K}}}`, `spec.defaultBackend.resource.name: Invalid value: "a/b": may not contain '/'`},
		{Ingress, `{defaultBackend: {service: {name: s, port: {number: 80}}}, tls: [{hosts: [a_b]}]}`, `spec.tls[0].hosts[0]: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		{Ingress, `{rules: [{host: 1.2.3.4}]}`, `spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address`},
		{IngressClass, `{controller: a.b/c, parameters: {kind: K}}`, `spec.parameters.name: Required value`},
		{IngressClass, `{controller: a.b/c, parameters: {kind: K, name: n, scope: Namespace}}`, "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"},
		{IngressClass, `{controller: a.b/c, parameters: {kind: K, name: n, namespace: x}}`, "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"},
		{IngressClass, `{controller: a.b/c, parameters: {kind: K, name: n, scope: World}}`, `spec.parameters.scope: Unsupported value: "World": supported values: "Cluster", "Namespace"`},
		{ServiceCIDR, `{cidrs: [10.112.0.0/24, 10.113.0.0/24]}`, `spec.cidrs: Invalid value: ["10.112.0.0/24","10.113.0.0/24"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64`},
		{Namespace, `{finalizers: [kubernetes, example.com/mine]}`, ""},
		{Namespace, `{finalizers: [mine]}`, `spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`},
		{Node, `{podCIDR: 10.244.9.0/24, podCIDRs: [nonsense]}`, ""},
		{Node, `{podCIDR: nonsense}`, `spec.podCIDRs[0]: Invalid value: "nonsense": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`},
		{Node, `{podCIDRs: [10.244.9.0/24, 10.244.8.0/24]}`, `spec.podCIDRs: Invalid value: ["10.244.9.0/24","10.244.8.0/24"]: may specify no more than one CIDR for each IP family`},
		{Node, `{taints: [{key: a, effect: Never}]}`, `metadata.taints[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`},
		{Node, `{taints: [{key: a}]}`, `metadata.taints[0].effect: Required value`},
		{Node, `{taints: [{key: a, effect: NoExecute}, {key: a, value: b, effect: NoExecute}]}`, `metadata.taints[1]: Duplicate value: {"Key":"a","Value":"b","Effect":"NoExecute","TimeAdded":null}: taints must be unique by key and effect pair`},
		{Lease, `{preferredHolder: a}`, "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"},
		{Lease, `{strategy: Newest}`, `spec.strategy.strategy: Unsupported value: "Newest": supported values: "OldestEmulationVersion"`},
		{CertificateSigningRequest, `{request: aGVsbG8=, signerName: a/b, usages: [client auth]}`, `PEM block type must be CERTIFICATE REQUEST`},
	} {
		if got := firstError(t, c.kind, c.spec); got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.kind.Kind, c.spec, got, c.want)
		}
	}
}

// firstError is what the user reads first about an object of this spec, in YAML.
func firstError(t *testing.T, kind *Kind, spec string) string {
	t.Helper()
	obj := kind.New()
	if err := yaml.Unmarshal([]byte(`{metadata: {name: x}, spec: `+spec+`}`), obj); err != nil {
		t.Fatalf("%s %s: %v", kind.Kind, spec, err)
	}
	if kind.Namespaced {
		obj.SetNamespace("default")
	}
	obj.SetUID("uid")
	kind.ApplyDefaults(obj)
	if kind.Prepare != nil {
		kind.Prepare(obj, nil)
	}
	var errs field.ErrorList
	if kind.Settle != nil {
		errs = kind.Settle(obj, nil)
	}
	if len(errs) == 0 {
		errs = kind.Check(obj, nil)
	}
	switch {
	case len(errs) == 0:
		return ""
	case kind == CertificateSigningRequest:
		return errs[0].Detail
	}
	return errs[0].Error()
}

// TestChangeRefused has one forbidden change a line, or one that is allowed.
func TestChangeRefused(t *testing.T) {
	for _, c := range []struct {
		kind            *Kind
		old, body, want string
	}{
		{IPAddress, `{spec: {parentRef: {resource: services, name: a}}}`, `{spec: {parentRef: {resource: services, name: a}}}`, ""},
		{IPAddress, `{spec: {parentRef: {resource: services, name: a}}}`, `{spec: {parentRef: {resource: services, name: b}}}`, `spec.parentRef: Invalid value: {"Group":"","Resource":"services","Namespace":"","Name":"b"}: field is immutable`},
		{IPAddress, `{spec: {parentRef: {resource: services, name: a}}}`, `{}`, `spec.parentRef: Required value`},
		{IngressClass, `{spec: {controller: a.b/c}}`, `{spec: {controller: a.b/d}}`, `spec.controller: Invalid value: "a.b/d": field is immutable`},
		{ServiceCIDR, `{spec: {cidrs: [10.112.0.0/24]}}`, `{spec: {cidrs: [10.113.0.0/24]}}`, `spec.cidrs[0]: Invalid value: "10.113.0.0/24": field is immutable`},
		{ServiceCIDR, `{spec: {cidrs: [10.112.0.0/24]}}`, `{spec: {cidrs: [10.112.0.0/24, "fd00::/112"]}}`, ""},
		{ServiceCIDR, `{spec: {cidrs: [10.112.0.0/24]}}`, `{spec: {}}`, `spec.cidrs: Invalid value: null: field is immutable`},
		{Endpoints, `{}`, `{subsets: [{addresses: [{ip: "", hostname: h_}], ports: [{name: P, port: 0}]}]}`, `subsets[0].addresses[0].ip: Invalid value: "": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`},
		{Endpoints, `{}`, `{subsets: [{addresses: [{ip: 10.0.0.1, nodeName: Node}]}]}`, `subsets[0].addresses[0].nodeName: Invalid value: "Node": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		{EndpointSlice, `{addressType: IPv4}`, `{addressType: IPv6}`, `addressType: Invalid value: "IPv6": field is immutable`},
		{EndpointSlice, `{addressType: IPv4}`, `{addressType: IPv4, endpoints: [{addresses: [10.0.0.1], hints: {forZones: [{name: a}, {name: a}]}}]}`, `endpoints[0].hints.forZones[1].name: Duplicate value: "a"`},
		{EndpointSlice, `{addressType: IPv4}`, `{addressType: IPv4, endpoints: [{addresses: ["fd00::1"]}]}`, `endpoints[0].addresses: Invalid value: "fd00::1": must be an IPv4 address`},
	} {
		old, obj := c.kind.New(), c.kind.New()
		decode(t, c.kind, c.old, old)
		decode(t, c.kind, c.body, obj)
		got := ""
		if errs := c.kind.Validate(obj, old); len(errs) > 0 {
			got = errs[0].Error()
		}
		if got != c.want {
			t.Errorf("%s %s -> %s\n got %s\nwant %s", c.kind.Kind, c.old, c.body, got, c.want)
		}
	}
}

func decode(t *testing.T, kind *Kind, text string, into Object) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s %s: %v", kind.Kind, text, err)
	}
	kind.ApplyDefaults(into)
}
