package early

// For the tests, which are in another package: their imports would be this one's.
var (
	StartsProcesses = startsProcesses
	Attends         = attends
	Addresses       = addresses
	Decimal         = decimal
)
