package main

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// TestKubernetes: the same of deploy/kubernetes; and what names each other there exists.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	c := deployed(t, documents(t, "kubernetes/config.yaml")[0].at("data", "distributed.yaml").text())
	filesBelow(t, c, "/etc/sluice/secrets", documents(t, "kubernetes/secret.example.yaml")[0].at("stringData").keys())
	ports := map[string]string{"http": port(c.Gateway.Listen), "ops": port(c.Ops.Listen)}
	kustomization := documents(t, "kubernetes/kustomization.yaml")[0]
	var all []tree
	for _, name := range kustomization.at("resources").list() {
		all = append(all, documents(t, "kubernetes/"+name.text())...)
	}
	files, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if n := len(kustomization.at("resources").list()); err != nil || n != len(files)-2 {
		t.Errorf("%d resources, and the files %v, of which two are none", n, files)
	}
	pods := map[string]string{} // labels to role
	for _, d := range all {
		if d.at("kind").text() == "Deployment" {
			role := ofDeployment(t, d, ports)
			pods[d.at("spec", "template", "metadata", "labels").text()] = role
		}
	}
	if len(pods) != 3 {
		t.Errorf("deployments: %v", pods)
	}
	for _, d := range all {
		var selector tree
		switch kind := d.at("kind").text(); kind {
		case "Service":
			selector = d.at("spec", "selector")
			if ports[d.at("spec", "ports", 0, "targetPort").text()] == "" {
				t.Errorf("%s: no such port", d.name)
			}
		case "PodDisruptionBudget":
			selector = d.at("spec", "selector", "matchLabels")
		case "HorizontalPodAutoscaler":
			if name := d.at("spec", "scaleTargetRef", "name").text(); name != "sluice-gateway" {
				t.Errorf("%s: scales %s", d.name, name)
			}
			continue
		case "NetworkPolicy":
			if ports[d.at("spec", "ingress", 0, "ports", 0, "port").text()] == "" {
				t.Errorf("%s: no such port", d.name)
			}
			continue
		case "Deployment", "ConfigMap":
			continue
		default:
			t.Errorf("%s: nothing looks at a %s", d.name, kind)
			continue
		}
		if pods[selector.text()] == "" || pods[selector.text()] != d.at("metadata", "labels", "app.kubernetes.io/component").text() {
			t.Errorf("%s: selects %s, and there are %v", d.name, selector.text(), pods)
		}
	}
}

// ofDeployment looks at one and returns its role.
func ofDeployment(t *testing.T, d tree, ports map[string]string) string {
	t.Helper()
	pod := d.at("spec", "template", "spec")
	box := pod.at("containers", 0)
	role := servesAs(t, box.at("args"), "/etc/sluice/config/distributed.yaml")
	if name := d.at("metadata", "name").text(); name != "sluice-"+role {
		t.Errorf("%s runs the role %s", name, role)
	}
	if labels := d.at("spec", "template", "metadata", "labels").text(); labels != d.at("spec", "selector", "matchLabels").text() {
		t.Errorf("%s does not select its pods, %s", role, labels)
	}
	for _, p := range box.at("ports").list() {
		if got := p.at("containerPort").text(); got != ports[p.at("name").text()] {
			t.Errorf("%s: port %s is %s, the program listens on %v", role, p.at("name").text(), got, ports)
		}
	}
	for probe, path := range map[string]string{"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"} {
		if get := box.at(probe, "httpGet"); get.at("path").text() != path || get.at("port").text() != "ops" {
			t.Errorf("%s: %s asks %v", role, probe, get.text())
		}
	}
	grace := time.Duration(pod.at("terminationGracePeriodSeconds").node.(int)) * time.Second
	if role == "gateway" {
		grace -= time.Duration(box.at("lifecycle", "preStop", "sleep", "seconds").node.(int)) * time.Second
	}
	if grace < stopWait+5*time.Second {
		t.Errorf("%s is killed %v after the signal, a stop takes %v at most", role, grace, stopWait)
	}
	mounts := map[string]string{}
	for _, m := range box.at("volumeMounts").list() {
		mounts[m.at("name").text()] = m.at("mountPath").text()
	}
	if want := map[string]string{"config": "/etc/sluice/config", "secrets": "/etc/sluice/secrets", "data": "/var/lib/sluice"}; !reflect.DeepEqual(mounts, want) {
		t.Errorf("%s: mounts %v", role, mounts)
	}
	return role
}
