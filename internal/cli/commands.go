package cli

import (
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/witness"
)

// commands is the table of all commands, in the order of the help.
func commands() []command {
	return []command{
		{"run", groupRun, newRun},
		{"create", groupRun, newCreate},
		{"start", groupRun, newStart},
		{"stop", groupRun, newStop},
		{"restart", groupRun, newRestart},
		{"kill", groupRun, newKill},
		{"pause", groupRun, newPause},
		{"unpause", groupRun, newUnpause},
		{"rename", groupRun, newRename},
		{"rm", groupRun, newRm},
		{"ps", groupRun, newPs},
		{"logs", groupRun, newLogs},
		{"exec", groupRun, newExec},
		{"attach", groupRun, newAttach},
		{"wait", groupRun, newWait},
		{"inspect", groupRun, newInspect},
		{"cp", groupRun, newCp},
		{"diff", groupRun, newDiff},
		{"commit", groupRun, newCommit},
		{"export", groupRun, newExport},
		{"port", groupRun, newPort},
		{"top", groupRun, newTop},
		{"stats", groupRun, newStats},
		{"events", groupRun, newEvents},
		{"container", groupRun, newContainer},
		{"update", groupRun, newUpdate},
		{"why", groupRun, newWhy},
		{"watch", groupRun, newWatch},
		{"record", groupRun, newRecord},
		{"learn", groupRun, newLearn},

		{"compose", groupRun, newCompose},

		{"image", groupImages, newImage},
		{"images", groupImages, newImages},
		{"build", groupImages, newBuild},
		{"pull", groupImages, newPull},
		{"push", groupImages, newPush},
		{"load", groupImages, newLoad},
		{"save", groupImages, newSave},
		{"import", groupImages, newImport},
		{"tag", groupImages, newTag},
		{"rmi", groupImages, newRmi},
		{"history", groupImages, newHistory},
		{"login", groupImages, newLogin},
		{"logout", groupImages, newLogout},

		{"network", groupOther, newNetwork},
		{"volume", groupOther, newVolume},
		{"capabilities", groupOther, newCapabilities},
		{"seccomp", groupOther, newSeccomp},
		{"policy", groupOther, newPolicy},
		{"collect", groupOther, newCollect},
		{"report", groupOther, newReport},
		{"system", groupOther, newSystem},
		{"info", groupOther, newInfo},
		{"version", groupOther, newVersion},
		{"hello", groupOther, newHello},
		{witness.Command, groupOther, newWitness},
		{monitor.RestartCommand, groupOther, newRestartByPolicy},
		{monitor.CompressCommand, groupOther, newCompressLog},
	}
}
