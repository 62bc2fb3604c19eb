package export

import (
	"strings"
)

// docker writes the profile and a command line for Docker.
func (x *exporter) docker() error {
	return x.commandLine("docker")
}

// podman writes the profile and a command line for podman.
func (x *exporter) podman() error {
	u, known := x.user()
	if len(x.caps) > 0 && !(known && u.root()) {
		x.note("podman gives a user other than root what --cap-add names as ambient capabilities, which Brig and Docker do not")
	}
	return x.commandLine("podman")
}

// profileFile adds the profile in Docker's form.
func (x *exporter) profileFile() error {
	p, err := x.portable()
	if err != nil {
		return err
	}
	data, err := p.DockerJSON()
	if err != nil {
		return err
	}
	x.file(".json", data)
	return nil
}

// commandLine writes the profile and "ENGINE run".
func (x *exporter) commandLine(engine string) error {
	if err := x.profileFile(); err != nil {
		return err
	}
	x.noteImage()
	words := []string{engine + " run", "--cap-drop ALL"}
	for _, c := range x.caps {
		words = append(words, "--cap-add "+c)
	}
	words = append(words, "--security-opt "+shellWord("seccomp="+x.name+".json"))
	if x.in.NoNewPrivileges {
		words = append(words, "--security-opt no-new-privileges")
	}
	if u, known := x.user(); known {
		words = append(words, "--user "+shellWord(u.text))
	}
	words = append(words, x.imageWords())
	x.file(".sh", []byte(x.head("How "+x.name+" runs under "+engine)+strings.Join(words, " \\\n\t")+"\n"))
	return nil
}

// noImage stands for an image that the policy does not name.
const noImage = "IMAGE"

func (x *exporter) noteImage() {
	if x.in.Policy.Image == nil {
		x.note("the policy names no image: put yours in place of %s", noImage)
	}
}

func (x *exporter) image() string {
	if x.in.Policy.Image == nil {
		return noImage
	}
	return x.in.Policy.Image.Reference
}

// imageWords returns the image and its command as words of a shell.
func (x *exporter) imageWords() string {
	words := []string{shellWord(x.image())}
	for _, w := range x.in.Policy.Command {
		words = append(words, shellWord(w))
	}
	return strings.Join(words, " ")
}

// compose writes a service of docker-compose and its profile.
func (x *exporter) compose() error {
	if err := x.profileFile(); err != nil {
		return err
	}
	x.noteImage()
	var b strings.Builder
	add := func(indent int, text string) { b.WriteString(strings.Repeat("  ", indent) + text + "\n") }
	value := func(text string) string { return strings.ReplaceAll(text, "$", "$$") } // else it names a variable
	b.WriteString(x.head("The service " + x.name + " for docker-compose"))
	add(0, "services:")
	add(1, yamlString(x.name)+":")
	add(2, "image: "+yamlString(value(x.image())))
	if len(x.in.Policy.Command) > 0 {
		words := make([]string, len(x.in.Policy.Command))
		for i, w := range x.in.Policy.Command {
			words[i] = value(w)
		}
		add(2, "command: "+yamlList(words))
	}
	if u, known := x.user(); known {
		add(2, "user: "+yamlString(value(u.text)))
	}
	add(2, `cap_drop: ["ALL"]`)
	add(2, "cap_add: "+yamlList(x.caps))
	add(2, "security_opt:")
	add(3, "- "+yamlString("seccomp=./"+x.name+".json"))
	if x.in.NoNewPrivileges {
		add(3, `- "no-new-privileges=true"`)
	}
	// The service is what one looks for; the profile goes with it.
	profile := x.out.Files[0]
	x.out.Files = []File{{x.name + ".yaml", []byte(b.String())}, profile}
	return nil
}
