// A helper of jasmine's: writes what came of each spec to the file JUNIT_REPORT, as pytest does.
const fs = require('fs');

const escaped = text =>
  String(text).replace(/[\0-\x08\x0b-\x1f]/g, '?').replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/"/g, '&quot;');

const cases = [];

jasmine.getEnv().addReporter({
  specDone(result) {
    const name = result.description;
    const suite = result.fullName.slice(0, result.fullName.length - name.length).trim();
    const failure = result.failedExpectations[0];
    let inner = '';
    if (result.status === 'failed') {
      inner = `<failure message="${escaped(failure ? failure.message : 'failed')}"></failure>`;
    } else if (result.status !== 'passed') {
      inner = '<skipped></skipped>';
    }
    cases.push(`<testcase classname="${escaped(suite)}" name="${escaped(name)}">${inner}</testcase>`);
  },
  jasmineDone() {
    fs.writeFileSync(process.env.JUNIT_REPORT, `<testsuites><testsuite>${cases.join('\n')}</testsuite></testsuites>`);
  },
});
