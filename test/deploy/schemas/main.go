// Command schemas checks manifests against the schemas of Kubernetes: objects of
// its own are read by its own types, and a field that these lack is an error. A
// SeccompProfile is checked against the definition that the Security Profiles
// Operator installs, which is the first argument. It is a module of its own, so
// that these types are no dependency of Brig.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	failed := false
	for _, file := range os.Args[2:] {
		kinds, err := check(os.Args[1], file)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			failed = true
		}
		fmt.Printf("%s: %s\n", file, strings.Join(kinds, " "))
	}
	if failed {
		os.Exit(1)
	}
}

func check(definition, file string) (kinds []string, err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, nodev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	docs := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(data)))
	for {
		buf := make([]byte, 1<<20)
		n, err := docs.Read(buf)
		if errors.Is(err, io.EOF) {
			return kinds, nil
		}
		if err != nil {
			return kinds, err
		}
		var meta runtime.TypeMeta
		if err := yaml.Unmarshal(buf[:n], &meta); err != nil {
			return kinds, err
		}
		kinds = append(kinds, meta.Kind)
		if meta.Kind == "SeccompProfile" {
			err = custom(definition, meta.APIVersion, buf[:n])
		} else {
			_, _, err = decoder.Decode(buf[:n], nil, nil)
		}
		if err != nil {
			return kinds, fmt.Errorf("%s: %w", meta.Kind, err)
		}
	}
}

// custom checks an object against the CustomResourceDefinition in a file.
func custom(definition, version string, doc []byte) error {
	data, err := os.ReadFile(definition)
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Group    string
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return err
	}
	for _, v := range crd.Spec.Versions {
		if crd.Spec.Group+"/"+v.Name != version {
			continue
		}
		closed(v.Schema.OpenAPIV3Schema)
		c := jsonschema.NewCompiler()
		if err := c.AddResource("crd.json", v.Schema.OpenAPIV3Schema); err != nil {
			return err
		}
		schema, err := c.Compile("crd.json")
		if err != nil {
			return err
		}
		var object any
		if err := yaml.Unmarshal(doc, &object); err != nil {
			return err
		}
		return schema.Validate(object)
	}
	return fmt.Errorf("%s is none of the versions of %s", version, crd.Spec.Group)
}

// closed makes fields that a schema does not name an error: the API server would
// drop them.
func closed(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		_, more := s["additionalProperties"]
		if _, named := s["properties"]; named && !more {
			s["additionalProperties"] = false
		}
		for _, v := range s {
			closed(v)
		}
	case []any:
		for _, v := range s {
			closed(v)
		}
	}
}
