package resource

import (
	"testing"

	"sigs.k8s.io/yaml"
)

// TestRefusedObjects has one mistake a line, like TestRefused, in objects of the
// core, coordination, RBAC and scheduling groups. A pod's line is what its
// specification has beside, or in the place of, one good container.
func TestRefusedObjects(t *testing.T) {
	const label = `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`
	pod := func(spec string) string { return `{spec: {containers: [{name: c, image: i}], ` + spec + `}}` }
	container := func(fields string) string {
		return `{spec: {containers: [{name: c, image: i, ` + fields + `}], volumes: [{name: v}]}}`
	}
	for _, c := range []struct {
		kind         *Kind
		object, want string
	}{
		{Pod, pod(``), ""},
		{Pod, `{spec: {containers: [{name: c, image: i}, {name: c, image: i}]}}`, `spec.containers[1].name: Duplicate value: "c"`},
		{Pod, `{spec: {containers: [{name: C_, image: i}]}}`, `spec.containers[0].name: Invalid value: "C_": ` + label},
		{Pod, container(`imagePullPolicy: Sometimes`), `spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"`},
		{Pod, pod(`dnsPolicy: None`), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"},
		{Pod, container(`volumeMounts: [{name: w, mountPath: /a}]`), `spec.containers[0].volumeMounts[0].name: Not found: "w"`},
		{Pod, container(`volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a}]`), `spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique`},
		{Pod, container(`volumeMounts: [{name: v}]`), `spec.containers[0].volumeMounts[0].mountPath: Required value`},
		{Pod, pod(`securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: "1"}, {name: net/ipv4/tcp_rmem, value: "1"}]}`), ""},
		{Pod, pod(`securityContext: {sysctls: [{name: foo-, value: x}]}`), `spec.securityContext.sysctls[0].name: Invalid value: "foo-": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`},
		{Pod, pod(`securityContext: {sysctls: [{value: x}]}`), `spec.securityContext.sysctls[0].name: Required value`},
		{Pod, pod(`securityContext: {sysctls: [{name: a.b}, {name: a.b}]}`), `spec.securityContext.sysctls[1].name: Duplicate value: "a.b"`},
		{Pod, pod(`hostNetwork: true, securityContext: {sysctls: [{name: net.core.somaxconn}]}`), `spec.securityContext.sysctls[0].name: Invalid value: "net.core.somaxconn": may not be specified when 'hostNetwork' is true`},
		{Pod, pod(`volumes: [{name: v}, {name: v}]`), `spec.volumes[1].name: Duplicate value: "v"`},
		{Pod, pod(`volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]`), `spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type`},
		{Pod, pod(`volumes: [{name: v, configMap: {}}]`), `spec.volumes[0].configMap.name: Required value`},
		{Pod, pod(`volumes: [{name: v, secret: {}}]`), `spec.volumes[0].secret.secretName: Required value`},
		{Pod, pod(`volumes: [{name: v, hostPath: {}}]`), `spec.volumes[0].hostPath.path: Required value`},
		{Pod, container(`env: [{value: x}]`), `spec.containers[0].env[0].name: Required value`},
		{Pod, container(`livenessProbe: {httpGet: {port: 0}}`), `spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive`},
		{Pod, container(`livenessProbe: {tcpSocket: {port: 80}, successThreshold: 2}`), `spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1`},
		{Pod, container(`livenessProbe: {exec: {}}`), `spec.containers[0].livenessProbe.exec.command: Required value`},
		{Pod, container(`readinessProbe: {periodSeconds: 1}`), `spec.containers[0].readinessProbe: Required value: must specify a handler type`},
		{Pod, container(`readinessProbe: {tcpSocket: {port: 80}, periodSeconds: -1}`), `spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0`},
		{Pod, container(`resources: {requests: {cpu: "2"}, limits: {cpu: "1"}}`), `spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`},
		{Pod, container(`resources: {requests: {cpu: "-1"}}`), `spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0`},
		{Pod, container(`ports: [{name: http}]`), `spec.containers[0].ports[0].containerPort: Required value`},
		{Pod, container(`ports: [{containerPort: 80, protocol: ICMP}]`), `spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"`},
		{Pod, container(`ports: [{containerPort: 80, hostPort: 70000}]`), `spec.containers[0].ports[0].hostPort: Invalid value: 70000: must be between 1 and 65535, inclusive`},
		{Pod, container(`ports: [{name: http, containerPort: 80}, {name: http, containerPort: 81}]`), `spec.containers[0].ports[1].name: Duplicate value: "http"`},
		{Pod, container(`securityContext: {runAsUser: -1}`), `spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive`},
		{Pod, pod(`activeDeadlineSeconds: 0`), `spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive`},
		{Pod, pod(`hostname: A_`), `spec.hostname: Invalid value: "A_": ` + label},
		{Pod, pod(`subdomain: A_`), `spec.subdomain: Invalid value: "A_": ` + label},
		{Pod, pod(`hostAliases: [{ip: x}]`), `spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`},
		{Pod, pod(`tolerations: [{value: a}]`), "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""},
		{Pod, pod(`tolerations: [{key: a, effect: Never}]`), `spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`},
		{Pod, pod(`topologySpreadConstraints: [{maxSkew: 0, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]`), `spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero`},
		{Pod, pod(`topologySpreadConstraints: [{maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]`), `spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty`},
		{Pod, pod(`topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: Hope}]`), `spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Hope": supported values: "DoNotSchedule", "ScheduleAnyway"`},
		{Pod, pod(`ephemeralContainers: [{name: d, image: i}]`), `spec.ephemeralContainers: Forbidden: cannot be set on create`},
		{Pod, container(`volumeMounts: [{mountPath: /a}]`), `spec.containers[0].volumeMounts[0].name: Required value`},
		{Pod, container(`volumeMounts: [{name: v, mountPath: /a, subPath: ../b}]`), `spec.containers[0].volumeMounts.subPath: Invalid value: "../b": must not contain '..'`},
		{Pod, container(`volumeMounts: [{name: v, mountPath: /a, mountPropagation: Bidirectional}]`), `spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers`},
		{Pod, container(`terminationMessagePolicy: Log`), `spec.containers[0].terminationMessagePolicy: Unsupported value: "Log": supported values: "File", "FallbackToLogsOnError"`},
		{Pod, container(`env: [{name: A, valueFrom: {}}]`), "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"},
		{Pod, container(`env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.image}}}]`), `spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.image": error converting fieldPath: field label not supported: spec.image`},
		{Pod, container(`env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]`), `spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"`},
		{Pod, container(`env: [{name: A, valueFrom: {fieldRef: {fieldPath: "metadata.labels['a']"}}}]`), ""},
		{Pod, container(`env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2m}}}]`), `spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource`},
		{Pod, container(`envFrom: [{}]`), "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"},
		{Pod, container(`lifecycle: {preStop: {sleep: {seconds: 31}}}`), `spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)`},
		{Pod, container(`lifecycle: {preStop: {exec: {command: [a]}, tcpSocket: {port: 1}}}`), `spec.containers[0].lifecycle.preStop.tcpSocket: Forbidden: may not specify more than 1 handler type`},
		{Pod, container(`livenessProbe: {httpGet: {port: 80, scheme: FTP}}`), `spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"`},
		{Pod, container(`resources: {limits: {gpu: 1}}`), `spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified`},
		{Pod, container(`resources: {limits: {example.com/gpu: 500m}}`), `spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "500m": must be an integer`},
		{Pod, container(`resources: {requests: {example.com/gpu: 1}, limits: {example.com/gpu: 2}}`), `spec.containers[0].resources.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2`},
		{Pod, container(`resources: {limits: {hugepages-2Mi: 2Mi}}`), `spec.containers[0].resources: Forbidden: HugePages require cpu or memory`},
		{Pod, pod(`resources: {requests: {cpu: 1}, limits: {cpu: 500m}}`), `spec.resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 500m`},
		{Pod, container(`securityContext: {privileged: true, allowPrivilegeEscalation: false, seccompProfile: {type: Own}}`), `spec.containers[0].securityContext.seccompProfile.type: Unsupported value: "Own": supported values: "Localhost", "RuntimeDefault", "Unconfined"`},
		{Pod, container(`securityContext: {seccompProfile: {type: RuntimeDefault, localhostProfile: a}}`), `spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"RuntimeDefault","LocalhostProfile":"a"}: can only be set when seccomp type is Localhost`},
		{Pod, pod(`initContainers: [{name: i, image: i, livenessProbe: {tcpSocket: {port: 1}}}]`), `spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always`},
		{Pod, pod(`initContainers: [{name: i, image: i, restartPolicy: Always, livenessProbe: {tcpSocket: {port: 1}}}]`), ""},
		{Pod, pod(`volumes: [{name: v, configMap: {name: c, items: [{path: a}]}}]`), `spec.volumes[0].configMap.items[0].key: Required value`},
		{Pod, pod(`volumes: [{name: v, configMap: {name: c, defaultMode: 512}}]`), `spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive`},
		{Pod, pod(`volumes: [{name: v, secret: {secretName: c, items: [{key: k, path: /a}]}}]`), `spec.volumes[0].secret.items[0].path: Invalid value: "/a": must be a relative path`},
		{Pod, pod(`volumes: [{name: v, hostPath: {path: /a/../b}}]`), `spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'`},
		{Pod, pod(`volumes: [{name: v, downwardAPI: {items: [{path: a}]}}]`), `spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required`},
		{Pod, pod(`volumes: [{name: v, projected: {sources: [{downwardAPI: {items: [{path: a, fieldRef: {}}]}}]}}]`), `spec.volumes[0].projected.sources[0].downwardAPI.fieldRef.fieldPath: Required value`},
		{Pod, pod(`volumes: [{name: v, projected: {sources: [{secret: {name: a, items: [{key: k, path: p}]}}, {configMap: {name: b, items: [{key: k, path: p}]}}]}}]`), `spec.volumes[0].projected: Invalid value: "b": conflicting duplicate paths`},
		{Pod, pod(`serviceAccountName: a, volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, expirationSeconds: 60}}]}}]`), `spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes`},
		{Pod, pod(`volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]`), `spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set`},
		{Pod, pod(`affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: k, operator: Is}]}]}}}`), `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator`},
		{Pod, pod(`affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {}}]}}`), `spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100`},
		{Pod, pod(`affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {}}]}}`), `spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty`},
		{Pod, pod(`topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 2, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]`), `spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{z, DoNotSchedule}"`},
		{Pod, pod(`tolerations: [{key: a, operator: Like}]`), `spec.tolerations[0].operator: Unsupported value: "Like": supported values: "Equal", "Exists"`},
		{Pod, pod(`tolerations: [{key: a, value: "x y"}]`), `spec.tolerations[0].operator: Invalid value: "x y": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`},
		{Pod, pod(`dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}`), `spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]: must not have more than 3 nameservers`},
		{Pod, pod(`dnsConfig: {options: [{value: "2"}]}`), `spec.dnsConfig.options[0]: Required value: must not be empty`},
		{Pod, pod(`readinessGates: [{conditionType: a b}]`), `spec.readinessGates[0].conditionType: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`},
		{Pod, pod(`nodeName: n, schedulingGates: [{name: a}]`), `spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared`},
		{Pod, pod(`hostUsers: false, hostPID: true`), "spec.HostPID: Forbidden: when `hostUsers` is false"},
		{ConfigMap, `{data: {"a b": x}}`, `data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`},
		{ConfigMap, `{data: {"..": x}}`, `data[..]: Invalid value: "..": must not be '..'`},
		{Lease, `{spec: {leaseDurationSeconds: 0}}`, `spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0`},
		{Lease, `{spec: {leaseTransitions: -1}}`, `spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0`},
		{PriorityClass, `{value: 2000000000}`, `value: Forbidden: maximum allowed value of a user defined priority is 1000000000`},
		{ClusterRole, `{rules: [{apiGroups: [""], resources: [pods]}]}`, `rules[0].verbs: Required value: verbs must contain at least one value`},
		{ClusterRole, `{rules: [{apiGroups: [""], verbs: [get]}]}`, `rules[0].resources: Required value: resource rules must supply at least one resource`},
		{ClusterRole, `{rules: [{resources: [pods], verbs: [get]}]}`, `rules[0].apiGroups: Required value: resource rules must supply at least one api group`},
		{Role, `{rules: [{nonResourceURLs: [/metrics], verbs: [get]}]}`, `rules[0].nonResourceURLs: Invalid value: ["/metrics"]: namespaced rules cannot apply to non-resource URLs`},
		{RoleBinding, `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Thing, name: r}}`, `roleRef.kind: Unsupported value: "Thing": supported values: "Role", "ClusterRole"`},
		{RoleBinding, `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role}}`, `roleRef.name: Required value`},
		{RoleBinding, `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}, subjects: [{kind: Robot, name: x}]}`, `subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"`},
		{ClusterRoleBinding, `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}}`, `roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"`},
		{ClusterRoleBinding, `{roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: x}]}`, `subjects[0].namespace: Required value`},
		{APIService, `{spec: {group: example.com, version: v1, service: {name: s, namespace: n}}, metadata: {name: v1.example.com}}`, `spec.service: Forbidden: this server passes requests on to no other API server`},
	} {
		if got := refusal(t, c.kind, c.object); got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.kind.Kind, c.object, got, c.want)
		}
	}
}

// refusal is the first thing that is wrong with an object, after its defaults.
func refusal(t *testing.T, kind *Kind, text string) string {
	t.Helper()
	obj := kind.New()
	if err := yaml.Unmarshal([]byte(text), obj); err != nil {
		t.Fatalf("%s %s: %v", kind.Kind, text, err)
	}
	if obj.GetName() == "" {
		obj.SetName("x")
	}
	if kind.Namespaced {
		obj.SetNamespace("default")
	}
	obj.SetUID("uid")
	kind.ApplyDefaults(obj)
	if kind.Prepare != nil {
		kind.Prepare(obj, nil)
	}
	if errs := kind.Check(obj, nil); len(errs) > 0 {
		return errs[0].Error()
	}
	return ""
}
