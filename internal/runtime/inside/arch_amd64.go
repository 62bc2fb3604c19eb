package inside

const sysSetns = 308
