package inside

const sysSetns = 268
