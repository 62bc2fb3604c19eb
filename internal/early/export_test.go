package early

// For the tests, which are in another package: their imports would be this one's.
var (
	StartsProcesses = startsProcesses
	Attends         = attends
	Words           = words
	Addresses       = addresses
	Decimal         = decimal
)
