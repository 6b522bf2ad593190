package kubelet

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "B": "$(A)"}
	for in, want := range map[string]string{
		"$(A)": "1", "x$(A)y": "x1y", "$$(A)": "$(A)", "$(NONE)": "$(NONE)", "$(B)": "$(A)",
		"$A": "$A", "$": "$", "a$": "a$", "$(A": "$(A", "$$$(A)": "$1", "": "",
	} {
		if got := expand(in, values); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	yes := true
	objects := map[string]*corev1.ConfigMap{"cm": {Data: map[string]string{"key": "value", "second": "2"}}}
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, "gone")
	s := sources{
		pod:    &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{"app": "x"}}},
		podIPs: []string{"10.244.1.7"},
		services: func(context.Context) []*corev1.Service {
			return []*corev1.Service{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "redis-main"},
				Spec:       corev1.ServiceSpec{ClusterIP: "10.96.3.7", Ports: []corev1.ServicePort{{Name: "db", Port: 6379, Protocol: corev1.ProtocolTCP}}},
			}, {ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "hidden"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.3.8", Ports: []corev1.ServicePort{{Port: 1}}}}}
		},
		configMap: func(_ context.Context, name string) (*corev1.ConfigMap, error) {
			if object, ok := objects[name]; ok {
				return object, nil
			}
			return nil, missing
		},
	}
	keyOf := func(name, key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional}}
	}
	c := &corev1.Container{
		EnvFrom: []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}},
		Env: []corev1.EnvVar{
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
			{Name: "APP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}},
			{Name: "URL", Value: "http://$(IP):$(REDIS_MAIN_SERVICE_PORT)"},
			{Name: "KEY", ValueFrom: keyOf("cm", "key", nil)},
			{Name: "ABSENT", ValueFrom: keyOf("gone", "key", &yes)},
			{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("1m")}}},
		},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}},
	}
	env, err := s.environment(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := `REDIS_MAIN_SERVICE_HOST=10.96.3.7
REDIS_MAIN_SERVICE_PORT=6379
REDIS_MAIN_SERVICE_PORT_DB=6379
REDIS_MAIN_PORT=tcp://10.96.3.7:6379
REDIS_MAIN_PORT_6379_TCP=tcp://10.96.3.7:6379
REDIS_MAIN_PORT_6379_TCP_PROTO=tcp
REDIS_MAIN_PORT_6379_TCP_PORT=6379
REDIS_MAIN_PORT_6379_TCP_ADDR=10.96.3.7
P_key=value
P_second=2
IP=10.244.1.7
APP=x
URL=http://10.244.1.7:6379
KEY=value
CPU=250`
	if got := strings.Join(env.list(), "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	c.Env = []corev1.EnvVar{{Name: "X", ValueFrom: keyOf("cm", "nokey", nil)}}
	if _, err := s.environment(t.Context(), c); err == nil || err.Error() != "couldn't find key nokey in ConfigMap shop/cm" {
		t.Errorf("missing key: %v", err)
	}
}
