package resource

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// warnPod: a pod is changed by components rather than by people, so only who
// makes one is warned.
func warnPod(p, old *corev1.Pod) []string {
	if old != nil {
		return nil
	}
	return append(warnName(p.Name, "the Pod's hostname"), warnPodSpec(&p.Spec, p.Annotations, nil)...)
}

// The workloads warn of their template, whenever they have changed, and of
// their name, from which the pods have theirs.

const podNames = "Pod names and hostnames"

func warnDeployment(d, old *appsv1.Deployment) []string {
	if old != nil {
		return warnChanged(d, old, &d.Spec.Template)
	}
	return append(warnName(d.Name, podNames), warnTemplate(&d.Spec.Template)...)
}

func warnReplicaSet(r, old *appsv1.ReplicaSet) []string {
	if old != nil {
		return warnChanged(r, old, &r.Spec.Template)
	}
	return append(warnName(r.Name, podNames), warnTemplate(&r.Spec.Template)...)
}

func warnReplicationController(r, old *corev1.ReplicationController) []string {
	if old != nil {
		return warnChanged(r, old, r.Spec.Template)
	}
	return append(warnName(r.Name, podNames), warnTemplate(r.Spec.Template)...)
}

func warnDaemonSet(d, old *appsv1.DaemonSet) []string {
	if old != nil && d.Annotations[appsv1.DeprecatedTemplateGeneration] == old.Annotations[appsv1.DeprecatedTemplateGeneration] {
		return nil
	}
	return warnTemplate(&d.Spec.Template)
}

func warnStatefulSet(s, old *appsv1.StatefulSet) []string {
	list := warnTemplate(&s.Spec.Template)
	if old != nil {
		list = warnChanged(s, old, &s.Spec.Template)
	}
	if n := s.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		list = append(list, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return list
}

func warnJob(j, old *batchv1.Job) []string {
	if old != nil && j.Generation == old.Generation {
		return nil
	}
	var list []string
	if old == nil {
		list = warnName(j.Name, podNames)
	}
	if *j.Spec.CompletionMode == batchv1.IndexedCompletion && count(j.Spec.Completions) > 100_000 && count(j.Spec.Parallelism) > 10_000 {
		list = append(list, "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(list, warnTemplate(&j.Spec.Template)...)
}

func warnChanged(now, old Object, t *corev1.PodTemplateSpec) []string {
	if now.GetGeneration() == old.GetGeneration() {
		return nil
	}
	return warnTemplate(t)
}

func warnTemplate(t *corev1.PodTemplateSpec) []string {
	return warnPodSpec(&t.Spec, t.Annotations, templatePath)
}

func warnName(name, use string) []string {
	msgs := validation.IsDNS1123Label(name)
	if len(msgs) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("metadata.name: this is used in %s, which can result in surprising behavior; a DNS label is recommended: %v", use, msgs)}
}

// oldNodeLabels are names of before, mostly 1.14, and what took their place.
var oldNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                       `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                         `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region":      `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":        `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":              `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
	"app.kubernetes.io/created-by":                  "deprecated since v1.9",
	"scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
	"node-role.kubernetes.io/master":                `use "node-role.kubernetes.io/control-plane" instead`,
}

// oldAnnotations had a meaning once.
var oldAnnotations = []struct{ key, text string }{
	{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
	{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
}

// warnings collects texts about fields.
type warnings []string

func (w *warnings) add(at *field.Path, format string, args ...any) {
	*w = append(*w, at.String()+": "+fmt.Sprintf(format, args...))
}

// warnPodSpec: owner is the path of what has the specification, nil for a pod.
func warnPodSpec(s *corev1.PodSpec, annotations map[string]string, owner *field.Path) []string {
	var w warnings
	at := owner.Child("spec")
	w.placement(s, at)
	for _, old := range oldAnnotations {
		if _, ok := annotations[old.key]; ok {
			w.add(owner.Child("metadata", "annotations").Key(old.key), "%s", old.text)
		}
	}
	w.sources(s, at.Child("volumes"))
	w.overlaps(s.Volumes)
	w.repeats(s, at)
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		w.fraction(s.Overhead, name, at.Child("overhead"))
	}
	eachContainer(s, at, func(c *corev1.Container, at *field.Path) {
		for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			w.fraction(c.Resources.Limits, name, at.Child("resources", "limits"))
			w.fraction(c.Resources.Requests, name, at.Child("resources", "requests"))
		}
		w.hidden(c.Env, at.Child("env"))
	})
	w.ports(s, at)
	if t := s.TerminationGracePeriodSeconds; t != nil && *t < 0 {
		w.add(at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.nullSelectors(s.Affinity, at.Child("affinity"))
	if s.DNSConfig != nil {
		w = append(w, warnIPs(s.DNSConfig.Nameservers, at.Child("dnsConfig", "nameservers"))...)
	}
	for i, alias := range s.HostAliases {
		w = append(w, validation.GetWarningsForIP(at.Child("hostAliases").Index(i).Child("ip"), alias.IP)...)
	}
	return w
}

func (w *warnings) placement(s *corev1.PodSpec, at *field.Path) {
	for _, key := range sortedKeys(s.NodeSelector) {
		if text, ok := oldNodeLabels[key]; ok {
			w.add(at.Child("nodeSelector").Key(key), "%s", text)
		}
	}
	if s.Affinity != nil && s.Affinity.NodeAffinity != nil {
		n, at := s.Affinity.NodeAffinity, at.Child("affinity", "nodeAffinity")
		if must := n.RequiredDuringSchedulingIgnoredDuringExecution; must != nil {
			for i := range must.NodeSelectorTerms {
				w.nodeTerm(&must.NodeSelectorTerms[i], false, at.Child("requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i))
			}
		}
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			w.nodeTerm(&n.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference, true, at.Child("preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("preference"))
		}
	}
	for i, c := range s.TopologySpreadConstraints {
		at := at.Child("topologySpreadConstraints").Index(i)
		if text, ok := oldNodeLabels[c.TopologyKey]; ok {
			w.add(at.Child("topologyKey"), "%s is %s", c.TopologyKey, text)
		}
		if c.LabelSelector == nil {
			w.add(at.Child("labelSelector"), "a null labelSelector results in matching no pod")
		}
	}
}

// nodeTerm looks at values in preferences only: in a requirement they are refused.
func (w *warnings) nodeTerm(t *corev1.NodeSelectorTerm, values bool, at *field.Path) {
	for i, r := range t.MatchExpressions {
		at := at.Child("matchExpressions").Index(i)
		if text, ok := oldNodeLabels[r.Key]; ok {
			w.add(at.Child("key"), "%s is %s", r.Key, text)
		}
		for j, value := range r.Values {
			for _, msg := range validation.IsValidLabelValue(value) {
				if values {
					w.add(at.Child("values").Index(j), "%s is invalid, %s", value, msg)
				}
			}
		}
	}
}

func (w *warnings) nullSelectors(a *corev1.Affinity, at *field.Path) {
	if a == nil {
		return
	}
	terms := func(name string, must []corev1.PodAffinityTerm, may []corev1.WeightedPodAffinityTerm) {
		for i, t := range must {
			if t.LabelSelector == nil {
				w.add(at.Child(name, "requiredDuringSchedulingIgnoredDuringExecution").Index(i).Child("labelSelector"), "a null labelSelector results in matching no pod")
			}
		}
		for i, t := range may {
			if t.PodAffinityTerm.LabelSelector == nil {
				w.add(at.Child(name, "preferredDuringSchedulingIgnoredDuringExecution").Index(i).Child("podAffinityTerm", "labelSelector"), "a null labelSelector results in matching no pod")
			}
		}
	}
	if p := a.PodAffinity; p != nil {
		terms("podAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if p := a.PodAntiAffinity; p != nil {
		terms("podAntiAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

// sources of volumes which no kubelet makes any more.
func (w *warnings) sources(s *corev1.PodSpec, at *field.Path) {
	for i, v := range s.Volumes {
		for _, old := range []struct {
			used       bool
			name, text string
		}{
			{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
			{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
			{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
			{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
			{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
			{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
			{v.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
			{v.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
		} {
			if old.used {
				w.add(at.Index(i).Child(old.name), "%s", old.text)
			}
		}
	}
}

// file is a path inside a volume, and which source of a projected volume has it.
type file struct{ path, source string }

func (f file) String() string {
	if f.source == "" {
		return fmt.Sprintf("%q", f.path)
	}
	return fmt.Sprintf("%q (%s)", f.path, f.source)
}

// overlaps: of two files with one path, or one below the other, one is lost.
func (w *warnings) overlaps(volumes []corev1.Volume) {
	for _, v := range volumes {
		switch {
		case v.ConfigMap != nil:
			w.overlap(v.Name, fmt.Sprintf("ConfigMap %q", v.ConfigMap.Name), keyFiles(v.ConfigMap.Items, ""))
		case v.Secret != nil:
			w.overlap(v.Name, fmt.Sprintf("Secret %q", v.Secret.SecretName), keyFiles(v.Secret.Items, ""))
		case v.DownwardAPI != nil:
			w.overlap(v.Name, "DownwardAPI", downwardFiles(v.DownwardAPI.Items, ""))
		case v.Projected != nil:
			var files []file
			for _, source := range v.Projected.Sources {
				if source == (corev1.VolumeProjection{}) {
					*w = append(*w, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
				}
				files = append(files, projectedFiles(&source)...)
			}
			w.overlap(v.Name, "Projected", files)
		}
	}
}

func (w *warnings) overlap(volume, kind string, files []file) {
	for i := range files {
		files[i].path = strings.TrimRight(files[i].path, "/")
		for _, other := range files[:i] {
			a, b := files[i].path+"/", other.path+"/"
			if a != "/" && b != "/" && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
				*w = append(*w, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, kind, files[i], other))
			}
		}
	}
}

func keyFiles(items []corev1.KeyToPath, source string) []file {
	var files []file
	for _, item := range items {
		files = append(files, file{item.Path, source})
	}
	return files
}

func downwardFiles(items []corev1.DownwardAPIVolumeFile, source string) []file {
	var files []file
	for _, item := range items {
		files = append(files, file{item.Path, source})
	}
	return files
}

func projectedFiles(s *corev1.VolumeProjection) []file {
	switch {
	case s.ConfigMap != nil && s.ConfigMap.Items != nil:
		return keyFiles(s.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", s.ConfigMap.Name))
	case s.Secret != nil && s.Secret.Items != nil:
		return keyFiles(s.Secret.Items, fmt.Sprintf("Secret %q", s.Secret.Name))
	case s.DownwardAPI != nil && s.DownwardAPI.Items != nil:
		return downwardFiles(s.DownwardAPI.Items, "DownwardAPI")
	case s.ServiceAccountToken != nil:
		return []file{{s.ServiceAccountToken.Path, "ServiceAccountToken"}}
	}
	return nil
}

// repeats in lists that are merged by a key: a patch knows one of them only.
func (w *warnings) repeats(s *corev1.PodSpec, at *field.Path) {
	ips, names := sets.New[string](), sets.New[string]()
	for i, alias := range s.HostAliases {
		if ips.Has(alias.IP) {
			w.add(at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", alias.IP)
		}
		ips.Insert(alias.IP)
	}
	for i, ref := range s.ImagePullSecrets {
		if names.Has(ref.Name) {
			w.add(at.Child("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", ref.Name)
		}
		names.Insert(ref.Name)
	}
	for i, ref := range s.ImagePullSecrets {
		if ref.Name == "" {
			w.add(at.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", ref.Name)
		}
	}
}

// fraction: 500m of memory is half a byte, and most likely 500M was meant.
func (w *warnings) fraction(list corev1.ResourceList, name corev1.ResourceName, at *field.Path) {
	if q, ok := list[name]; ok && q.MilliValue()%1000 != 0 {
		w.add(at.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
	}
}

// hidden: of two variables with one name the later one holds, and a patch that
// merges by name knows one only. PATH=$(PATH):/opt says that it knows.
func (w *warnings) hidden(env []corev1.EnvVar, at *field.Path) {
	seen := sets.New[string]()
	for i, e := range env {
		ref := "$(" + e.Name + ")"
		if seen.Has(e.Name) && (e.ValueFrom != nil || e.Value == ref || !strings.Contains(e.Value, ref)) {
			w.add(at.Index(i), "hides previous definition of %q, which may be dropped when using apply", e.Name)
		}
		seen.Insert(e.Name)
	}
}

// ports: containers of a pod share one address, so a port can be had by one of
// them, and a name by one port.
func (w *warnings) ports(s *corev1.PodSpec, at *field.Path) {
	type place struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	taken := map[string][]place{}
	eachContainer(s, at, func(c *corev1.Container, at *field.Path) {
		for i, p := range c.Ports {
			at := at.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				w.add(at, "hostIP set without hostPort: %+v", p)
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, other := range taken[key] {
				o := other.port
				switch {
				case p.HostIP == o.HostIP && p.HostPort == o.HostPort:
					w.add(at, "duplicate port definition with %s", other.at)
				case p.HostPort == 0 || o.HostPort == 0:
					w.add(at, "overlapping port definition with %s", other.at)
				case p.HostPort == o.HostPort && (p.HostIP == "") != (o.HostIP == ""):
					w.add(at, "dangerously ambiguous port definition with %s", other.at)
				}
			}
			taken[key] = append(taken[key], place{at, p})
		}
	})
	names := map[string]*field.Path{}
	eachContainer(s, at, func(c *corev1.Container, at *field.Path) {
		for i, p := range c.Ports {
			at := at.Child("ports").Index(i)
			if other, ok := names[p.Name]; ok {
				w.add(at, "duplicate port name %q with %s, services and probes that select ports by name will use %s", p.Name, other, other)
			} else if p.Name != "" {
				names[p.Name] = at
			}
		}
	})
}
