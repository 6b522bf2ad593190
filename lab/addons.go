package lab

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"text/template"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/podarium/podarium/lab/world"
)

// kubeDNS is the cluster's DNS as objects in the cluster, the way kubeadm
// installs CoreDNS.
//
//go:embed addons/kube-dns.yaml
var kubeDNS string

// applyAddons creates what is missing of kube-dns. What is there stays as it
// is: a learner may have changed it.
func applyAddons(ctx context.Context, cfg world.Config, client kubernetes.Interface) error {
	manifest, err := renderAddon(cfg)
	if err != nil {
		return err
	}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(manifest)))
	defer documents.Close()
	for {
		buf := make([]byte, 64<<10)
		n, err := documents.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read kube-dns manifest: %w", err)
		}
		object, kind, err := scheme.Codecs.UniversalDeserializer().Decode(buf[:n], nil, nil)
		if err != nil {
			return fmt.Errorf("decode kube-dns manifest: %w", err)
		}
		if err := create(ctx, client, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s of kube-dns: %w", kind.Kind, err)
		}
	}
}

func renderAddon(cfg world.Config) ([]byte, error) {
	parsed, err := template.New("kube-dns").Option("missingkey=error").Parse(kubeDNS)
	if err != nil {
		return nil, fmt.Errorf("parse kube-dns manifest: %w", err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, map[string]string{"Image": PodariumImage, "ClusterIP": cfg.DNSIP().String()}); err != nil {
		return nil, fmt.Errorf("render kube-dns manifest: %w", err)
	}
	return out.Bytes(), nil
}

func create(ctx context.Context, client kubernetes.Interface, object runtime.Object) error {
	var err error
	options := metav1.CreateOptions{}
	switch o := object.(type) {
	case *corev1.ServiceAccount:
		_, err = client.CoreV1().ServiceAccounts(o.Namespace).Create(ctx, o, options)
	case *corev1.Service:
		_, err = client.CoreV1().Services(o.Namespace).Create(ctx, o, options)
	case *appsv1.Deployment:
		_, err = client.AppsV1().Deployments(o.Namespace).Create(ctx, o, options)
	case *rbacv1.ClusterRole:
		_, err = client.RbacV1().ClusterRoles().Create(ctx, o, options)
	case *rbacv1.ClusterRoleBinding:
		_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, o, options)
	default:
		err = fmt.Errorf("a %T is not expected in an addon", object)
	}
	return err
}
