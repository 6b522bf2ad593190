package kubelet

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// environ is a container's environment while it is put together: the last value of a name counts, and
// the order is the order in which names came up.
type environ struct {
	names  []string
	values map[string]string
}

func newEnviron() *environ { return &environ{values: map[string]string{}} }

func (e *environ) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environ) list() []string {
	list := make([]string, len(e.names))
	for i, name := range e.names {
		list[i] = name + "=" + e.values[name]
	}
	return list
}

// sources gives what environment variables refer to.
type sources struct {
	pod         *corev1.Pod
	podIPs      []string
	nodeIPs     []string
	seen        time.Time // when this kubelet first saw the pod
	allocatable corev1.ResourceList
	services    func(ctx context.Context) []*corev1.Service
	configMap   func(ctx context.Context, name string) (*corev1.ConfigMap, error)
	secret      func(ctx context.Context, name string) (*corev1.Secret, error)
}

// environment works out a container's variables: those of the Services, then envFrom, then env; a later
// one replaces an earlier one. $(NAME) in env refers to what has been set before it.
func (s sources) environment(ctx context.Context, c *corev1.Container) (*environ, error) {
	env := newEnviron()
	links := s.pod.Spec.EnableServiceLinks == nil || *s.pod.Spec.EnableServiceLinks
	for _, pair := range serviceVariables(s.services(ctx), s.pod.Namespace, links) {
		env.set(pair[0], pair[1])
	}
	for _, from := range c.EnvFrom {
		if err := s.envFrom(ctx, env, from); err != nil {
			return nil, err
		}
	}
	for _, variable := range c.Env {
		value := expand(variable.Value, env.values)
		if variable.ValueFrom != nil {
			referred, ok, err := s.valueFrom(ctx, c, variable.ValueFrom)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue // an optional reference to something that does not exist
			}
			value = referred
		}
		env.set(variable.Name, value)
	}
	return env, nil
}

func (s sources) envFrom(ctx context.Context, env *environ, from corev1.EnvFromSource) error {
	switch {
	case from.ConfigMapRef != nil:
		object, err := s.configMap(ctx, from.ConfigMapRef.Name)
		if err != nil {
			return optionalError(err, from.ConfigMapRef.Optional)
		}
		for _, key := range slices.Sorted(maps.Keys(object.Data)) {
			env.set(from.Prefix+key, object.Data[key])
		}
	case from.SecretRef != nil:
		object, err := s.secret(ctx, from.SecretRef.Name)
		if err != nil {
			return optionalError(err, from.SecretRef.Optional)
		}
		for _, key := range slices.Sorted(maps.Keys(object.Data)) {
			env.set(from.Prefix+key, string(object.Data[key]))
		}
	}
	return nil
}

// optionalError forgives that an object does not exist when the pod says it need not.
func optionalError(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (s sources) valueFrom(ctx context.Context, c *corev1.Container, from *corev1.EnvVarSource) (string, bool, error) {
	switch {
	case from.FieldRef != nil:
		value, err := s.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		target := c
		if name := from.ResourceFieldRef.ContainerName; name != "" {
			if target = findContainer(s.pod, name); target == nil {
				return "", false, fmt.Errorf("container %s not found", name)
			}
		}
		return strconv.FormatInt(containerResource(target, from.ResourceFieldRef, s.allocatable), 10), true, nil
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		object, err := s.configMap(ctx, ref.Name)
		if err != nil {
			return "", false, optionalError(err, ref.Optional)
		}
		value, ok := object.Data[ref.Key]
		return value, ok, missingKey(ok, ref.Optional, ref.Key, "ConfigMap", s.pod.Namespace, ref.Name)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		object, err := s.secret(ctx, ref.Name)
		if err != nil {
			return "", false, optionalError(err, ref.Optional)
		}
		value, ok := object.Data[ref.Key]
		return string(value), ok, missingKey(ok, ref.Optional, ref.Key, "Secret", s.pod.Namespace, ref.Name)
	}
	if from.FileKeyRef != nil {
		return "", false, fmt.Errorf("fileKeyRef: this node does not read variables from files of volume %s", from.FileKeyRef.VolumeName)
	}
	return "", false, nil
}

func missingKey(ok bool, optional *bool, key, kind, namespace, name string) error {
	if ok || (optional != nil && *optional) {
		return nil
	}
	return fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, namespace, name)
}

// field is the value of a downward API reference: metadata.name, metadata.labels['app'], status.podIP.
func (s sources) field(path string) (string, error) {
	if kind, key, ok := subscript(path); ok {
		switch kind {
		case "metadata.labels":
			return s.pod.Labels[key], nil
		case "metadata.annotations":
			return s.pod.Annotations[key], nil
		}
	}
	first := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[0]
	}
	switch path {
	case "metadata.name":
		return s.pod.Name, nil
	case "metadata.namespace":
		return s.pod.Namespace, nil
	case "metadata.uid":
		return string(s.pod.UID), nil
	case "metadata.labels":
		return formatMap(s.pod.Labels), nil
	case "metadata.annotations":
		return formatMap(s.annotations()), nil
	case "spec.nodeName":
		return s.pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return s.pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(s.nodeIPs), nil
	case "status.hostIPs":
		return strings.Join(s.nodeIPs, ","), nil
	case "status.podIP":
		return first(s.podIPs), nil
	case "status.podIPs":
		return strings.Join(s.podIPs, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %s", path)
}

// annotations are the pod's, and two by which a kubelet notes from where and when it has the pod: programs that
// read them in a file see them in every cluster.
func (s sources) annotations() map[string]string {
	all := map[string]string{annotationConfigSource: "api"}
	if !s.seen.IsZero() {
		all["kubernetes.io/config.seen"] = s.seen.Format(time.RFC3339Nano)
	}
	maps.Copy(all, s.pod.Annotations) // a static pod has them already
	return all
}

// subscript splits metadata.labels['app'].
func subscript(path string) (kind, key string, ok bool) {
	kind, rest, ok := strings.Cut(path, "['")
	if !ok {
		return "", "", false
	}
	key, ok = strings.CutSuffix(rest, "']")
	return kind, key, ok
}

func formatMap(m map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s=%s\n", key, strconv.Quote(m[key]))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, c := range everyContainer(pod) {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// expand replaces $(NAME) by its value. $$ is one $, and an unknown name stays as it stands.
func expand(text string, values map[string]string) string {
	return expandBy(text, func(name string) string {
		if value, ok := values[name]; ok {
			return value
		}
		return "$(" + name + ")"
	})
}

// expandAllKnown is expand for a text in which every name has to have a value.
func expandAllKnown(text string, values map[string]string) (string, error) {
	var err error
	expanded := expandBy(text, func(name string) string {
		value, ok := values[name]
		if !ok && err == nil {
			err = fmt.Errorf("missing value for %s", name)
		}
		return value
	})
	return expanded, err
}

func expandBy(text string, value func(name string) string) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(text, '$')
		if at < 0 || at+1 == len(text) {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:at])
		switch rest := text[at+1:]; rest[0] {
		case '$':
			b.WriteByte('$')
			text = rest[1:]
		case '(':
			name, after, closed := strings.Cut(rest[1:], ")")
			if !closed {
				b.WriteString(text[at:])
				return b.String()
			}
			b.WriteString(value(name))
			text = after
		default:
			b.WriteByte('$')
			text = rest
		}
	}
}

// serviceVariables are what a pod learns of Services by its environment, as Docker links once did it:
// REDIS_SERVICE_HOST=10.96.3.7, REDIS_SERVICE_PORT=6379, REDIS_PORT_6379_TCP_ADDR and so on. With links
// for all Services of its namespace, without for the API server's own alone.
func serviceVariables(services []*corev1.Service, namespace string, links bool) [][2]string {
	chosen := map[string]*corev1.Service{}
	for _, service := range services {
		if service.Spec.ClusterIP == "" || service.Spec.ClusterIP == corev1.ClusterIPNone || len(service.Spec.Ports) == 0 {
			continue
		}
		api := service.Namespace == apiNamespace && service.Name == "kubernetes"
		_, taken := chosen[service.Name]
		if (links && service.Namespace == namespace) || (api && !taken) {
			chosen[service.Name] = service
		}
	}
	var pairs [][2]string
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		pairs = append(pairs, variablesOf(chosen[name])...)
	}
	return pairs
}

const apiNamespace = "default" // where the Service of the API server is

func variablesOf(service *corev1.Service) [][2]string {
	variable := func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
	name, ip := variable(service.Name), service.Spec.ClusterIP
	port := strconv.Itoa(int(service.Spec.Ports[0].Port))
	pairs := [][2]string{{name + "_SERVICE_HOST", ip}, {name + "_SERVICE_PORT", port}}
	for _, p := range service.Spec.Ports {
		if p.Name != "" {
			pairs = append(pairs, [2]string{name + "_SERVICE_PORT_" + variable(p.Name), strconv.Itoa(int(p.Port))})
		}
	}
	for i, p := range service.Spec.Ports {
		number, protocol := strconv.Itoa(int(p.Port)), string(p.Protocol)
		if protocol == "" {
			protocol = "TCP"
		}
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(ip, number)
		prefix := name + "_PORT_" + number + "_" + strings.ToUpper(protocol)
		if i == 0 {
			pairs = append(pairs, [2]string{name + "_PORT", url})
		}
		pairs = append(pairs,
			[2]string{prefix, url},
			[2]string{prefix + "_PROTO", strings.ToLower(protocol)},
			[2]string{prefix + "_PORT", number},
			[2]string{prefix + "_ADDR", ip})
	}
	return pairs
}
