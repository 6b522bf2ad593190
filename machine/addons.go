package machine

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

	"github.com/podarium/podarium/machine/components"
)

// The objects which a cluster is given once, as text: kubeDNS is the cluster's
// DNS, the way kubeadm installs CoreDNS; joining is who may join, and how.
var (
	//go:embed manifests/kube-dns.yaml
	kubeDNS string
	//go:embed manifests/joining.yaml
	joining string
)

// ApplyDNS creates what is missing of kube-dns.
func ApplyDNS(ctx context.Context, client kubernetes.Interface, cluster components.Cluster) error {
	return apply(ctx, client, "kube-dns", kubeDNS, map[string]string{"Image": PodariumImage, "ClusterIP": cluster.DNSIP().String()})
}

// ApplyJoining creates what is missing of the roles and bindings by which
// machines join.
func ApplyJoining(ctx context.Context, client kubernetes.Interface) error {
	return apply(ctx, client, "joining", joining, nil)
}

// apply creates what is missing of a manifest's objects. What is there stays as
// it is: a learner may have changed it.
func apply(ctx context.Context, client kubernetes.Interface, name, text string, values map[string]string) error {
	manifest, err := render(name, text, values)
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
			return fmt.Errorf("read manifest %s: %w", name, err)
		}
		object, kind, err := scheme.Codecs.UniversalDeserializer().Decode(buf[:n], nil, nil)
		if err != nil {
			return fmt.Errorf("decode manifest %s: %w", name, err)
		}
		if err := create(ctx, client, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s of %s: %w", kind.Kind, name, err)
		}
	}
}

func render(name, text string, values map[string]string) ([]byte, error) {
	parsed, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse manifest %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := parsed.Execute(&out, values); err != nil {
		return nil, fmt.Errorf("render manifest %s: %w", name, err)
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
		err = createService(ctx, client, o)
	case *appsv1.Deployment:
		_, err = client.AppsV1().Deployments(o.Namespace).Create(ctx, o, options)
	case *rbacv1.Role:
		_, err = client.RbacV1().Roles(o.Namespace).Create(ctx, o, options)
	case *rbacv1.RoleBinding:
		_, err = client.RbacV1().RoleBindings(o.Namespace).Create(ctx, o, options)
	case *rbacv1.ClusterRole:
		_, err = client.RbacV1().ClusterRoles().Create(ctx, o, options)
	case *rbacv1.ClusterRoleBinding:
		_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, o, options)
	default:
		err = fmt.Errorf("a %T is not expected in an addon", object)
	}
	return err
}

// createService looks first: of one that is there with its address, the API server
// says that the address is taken, before it says that the Service exists.
func createService(ctx context.Context, client kubernetes.Interface, service *corev1.Service) error {
	services := client.CoreV1().Services(service.Namespace)
	_, err := services.Get(ctx, service.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = services.Create(ctx, service, metav1.CreateOptions{})
	}
	return err
}
